"""Which jobs a pod had, and which of them was given its plan."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tests.e2e import pods
from tests.e2e.conftest import Lab

from slurmlet.contracts import audit

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT", "OUT_OF_MEMORY")
AGENT, SECOND_AGENT = "slurmlet-kubelet", "slurmlet-kubelet-second"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A row of sacct; `host` is empty for a job that never started."""

    id: str
    state: str
    host: str

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def jobs_of(lab: Lab, uids: Collection[str], user: str = "alice") -> dict[str, list[Job]]:
    """All jobs that these pods ever had, by pod UID."""
    # To the future, because a job counts from when it is eligible, and --begin puts that off.
    span = ["-S", "now-2hours", "-E", "now+2days"]
    argv = ["timeout", "30", "sacct", "-X", "-n", "-P", "-u", user, *span]
    found: dict[str, list[Job]] = {uid: [] for uid in uids}
    by_key = {uid[:8]: uid for uid in uids}
    for line in lab.run("ctl", [*argv, "-o", "JobID,State,NodeList,JobName"]).stdout.splitlines():
        # A job's name may hold newlines, and what follows one begins no row.
        row = line.split("|", 3)
        if len(row) != 4 or not row[0].isdecimal():
            continue
        number, state, host, name = row
        uid = by_key.get(name.partition("/")[0])
        if uid:
            job = Job(id=number, state=state.split()[0], host="" if "None" in host else host)
            found[uid].append(job)
    return found


def planned(lab: Lab) -> set[str]:
    """The jobs that an agent gave a plan to."""
    units = ["-u", AGENT, "-u", SECOND_AGENT]
    argv = ["journalctl", *units, "-o", "cat", "--no-pager", "-g", "audit"]
    acts = map(audit.parse, lab.run("ctl", argv, check=False).stdout.splitlines())
    return {str(act.job) for act in acts if act and act.what == audit.PLAN}


def dismissed(lab: Lab, job: Job, user: str = "alice") -> bool:
    """Whether the job's supervisor was told `bye`, as it wrote itself."""
    path = f".slurmlet/lab/boot/{job.id}.boot"
    return "agent: bye: " in lab.run("ctl", ["cat", path], user=user, check=False).stdout


def wait_until_ended(lab: Lab, uids: Collection[str], *, seconds: float) -> dict[str, list[Job]]:
    """The pods' jobs as soon as the accounting has the end of each."""
    return pods.until(
        lambda: jobs_of(lab, uids),
        lambda found: all(job.ended for jobs in found.values() for job in jobs),
        seconds=seconds,
        what="the end of all jobs",
    )


def more_than_one(lab: Lab, fates: Mapping[str, Collection[Job]]) -> list[str]:
    """What speaks against each pod UID having had exactly one job that was given the plan, and any
    other having ended without it: by `bye`, or before it started."""
    told = planned(lab)
    wrong = []
    for uid, jobs in fates.items():
        given = [job.id for job in jobs if job.id in told]
        if len(given) != 1:
            wrong.append(f"{uid}: {given} of its jobs {jobs} were given the plan")
        wrong += [
            f"{uid}: job {job.id} ran on {job.host} and was not dismissed"
            for job in jobs
            if job.id not in told and job.host and not dismissed(lab, job)
        ]
    return wrong


def left_on(lab: Lab, job: Job) -> str:
    """Processes and sandbox of a job that has ended, an empty text; its epilog may still run."""
    script = (
        f"ls -d /run/slurmlet/jobs/{job.id} 2>/dev/null;"
        f" grep -lE '/job_{job.id}(/|$)' /proc/[0-9]*/cgroup 2>/dev/null; true"
    )
    return pods.until(
        lambda: lab.run(job.host, ["sh", "-c", script]).stdout,
        lambda text: not text,
        seconds=60,
        what=f"nothing of job {job.id} on {job.host}",
    )
