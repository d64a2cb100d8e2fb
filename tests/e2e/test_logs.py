"""What `kubectl logs` shows, while a pod runs and after its end, and how much of a log is kept.

All pods are made at once, and the tests only look.
"""

import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from tests.e2e import pods
from tests.e2e.conftest import ROOT, Lab
from tests.e2e.test_containers import MOUNT, PATIENCE, Object, container, ended, pod, shared

LIMIT = 64 * 1024 * 1024
"""Bytes that are kept of the log of one start (log_max_mib)."""
PAD = 8000
"""Bytes of a line of the pods that write much."""
FLOOD = 25_000
"""Lines, 200 MB."""
FOLLOWED = 7_000
"""Lines, 56 MB: beyond three rotations."""
LINES = 'for i in $(seq 10); do echo "line $i"; done; sleep 4; echo late >&2; echo end;'
WRITE = "for i in $(seq 3000); do echo first $i; done"
WAIT = "until [ -e /shared/go ]; do sleep 0.1; done"
FIRST = [*(f"first {number}" for number in range(1, 3001))] * 2 + ["last of all"]
AGAIN = (
    "if [ -e /shared/x ]; then echo second; sleep 600; fi; touch /shared/x;"
    f" {WRITE}; {WAIT}; {WRITE}; echo last of all; exit 1"
)
"""Its first start ends when somebody has made /shared/go."""
ONCE = "if [ -e /shared/x ]; then echo second; exit 0; fi; touch /shared/x; echo first; exit 1"


def much(lines: int, *, pause: str = "") -> str:
    """A script that writes numbered lines of PAD bytes; `pause` comes after each hundred."""
    return (
        f"pad=$(head -c {PAD} /dev/zero | tr '\\0' x); i=0;"
        f" while [ $i -lt {lines} ]; do i=$((i+1)); echo $i $pad;"
        f" [ $((i % 100)) != 0 ] || {pause or ':'}; done"
    )


COUNT = (
    "NR == 1 { first = $1 } NR > 1 && $1 != last + 1 { gaps++ }"
    f" length($2) != {PAD} {{ torn++ }} {{ last = $1 }}"
    " END { print first + 0, last + 0, gaps + 0, torn + 0 }"
)
"""Number of the first and last line, how often one is missing, and how many are not whole."""

PODS = [
    pod("lg-live", container("main", f"{LINES} sleep 600")),
    pod("lg-done", container("main", LINES), container("side", "echo beside")),
    pod(
        "lg-again",
        container("main", AGAIN, **MOUNT),
        restartPolicy="Always",
        volumes=shared(),
    ),
    pod(
        "lg-once",
        container("main", ONCE, **MOUNT),
        restartPolicy="OnFailure",
        volumes=shared(),
    ),
    pod("lg-flood", container("main", much(FLOOD))),
    pod("lg-follow", container("main", f"sleep 3; {much(FOLLOWED, pause='sleep 0.3')}")),
]
NAMES = [item["metadata"]["name"] for item in PODS]


@pytest.fixture(scope="module")
def made(lab: Lab) -> Iterator[None]:
    words = [f"pod/{name}" for name in NAMES]
    gone = ["--ignore-not-found", "--grace-period=1"]
    lab.kubectl("alice", "delete", *words, *gone, "--timeout=120s")
    pods.create(lab, *PODS)
    yield
    lab.kubectl("alice", "delete", *words, *gone, "--wait=false")


@pytest.fixture(scope="module")
def followers(lab: Lab, made: None) -> Iterator[dict[str, "subprocess.Popen[str]"]]:
    """`kubectl logs -f`, begun as soon as their pods run."""
    scripts = {
        "lg-again": "timeout 200 kubectl logs -f lg-again",
        "lg-follow": f"timeout 200 kubectl logs -f lg-follow | awk '{COUNT}'",
    }
    running = {}
    for name, script in scripts.items():
        ready = f"kubectl wait --for=condition=Ready --timeout=200s pod/{name} >/dev/null"
        words = ["sh", "-c", f"{ready} && {script}"]
        argv = [str(ROOT / "lab"), "exec", "ctl", "--name", lab.name, "--user", "alice", "--"]
        running[name] = subprocess.Popen(
            [*argv, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
    yield running
    for process in running.values():
        process.kill()
        process.communicate()


def logs(lab: Lab, name: str, *words: str) -> str:
    return lab.kubectl("alice", "logs", name, *words).stdout


def stamps(lab: Lab, name: str) -> list[tuple[datetime, str]]:
    """Time and text of each line."""
    lines = logs(lab, name, "-c", "main", "--timestamps").split("\n")
    found = [line.split(" ", 1) for line in lines if line]
    return [(datetime.fromisoformat(time), text) for time, text in found]


WHOLE = [*(f"line {number}" for number in range(1, 11)), "late", "end"]


@pytest.mark.timeout(400)
@pytest.mark.claim("L14")
@pytest.mark.parametrize("name", ["lg-live", "lg-done"])
def test_the_choices_of_kubectl_logs(
    lab: Lab, followers: dict[str, "subprocess.Popen[str]"], name: str
) -> None:
    """By the supervisor while the pod runs, by the broker as its user afterwards."""
    if name == "lg-done":
        assert pods.phase(ended(lab, name)) == "Succeeded"
        assert logs(lab, name, "-c", "side") == "beside\n"
    else:
        pods.wait_for_phase(lab, name, "Running", seconds=PATIENCE)
    main = ("-c", "main")
    text = pods.until(
        lambda: logs(lab, name, *main), lambda said: said.endswith("end\n"), seconds=60, what=name
    )
    assert text == "".join(f"{line}\n" for line in WHOLE)
    assert logs(lab, name, *main, "--tail=3") == "line 10\nlate\nend\n"
    assert logs(lab, name, *main, "--tail=0") == ""
    assert logs(lab, name, *main, "--limit-bytes=10") == "line 1\nlin"
    assert logs(lab, name, *main, "--tail=2", "--limit-bytes=3") == "lat"
    times = stamps(lab, name)
    assert [words for _, words in times] == WHOLE
    assert all(earlier <= later for (earlier, _), (later, _) in pairwise(times))
    assert times[10][0] - times[9][0] > timedelta(seconds=3)
    between = (times[9][0] + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert logs(lab, name, *main, f"--since-time={between}") == "late\nend\n"
    assert logs(lab, name, *main, f"--since-time={between}", "--tail=1") == "end\n"
    ahead = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert logs(lab, name, *main, f"--since-time={ahead}") == ""
    assert logs(lab, name, *main, "--since=1h") == text
    refused = lab.kubectl("alice", "logs", name, *main, "--previous", check=False)
    assert refused.returncode != 0
    assert f'previous terminated container "main" in pod "{name}" not found' in refused.stderr


@pytest.mark.timeout(400)
@pytest.mark.claim("L16")
def test_a_follower_has_every_line_of_a_start_that_ends(
    lab: Lab, followers: dict[str, "subprocess.Popen[str]"]
) -> None:
    """It ends with that start, as with kubelet."""
    output = followers["lg-again"].stdout
    assert output
    said = [output.readline()]
    enter = ["timeout", "100", "srun", "--k8s-pod=alice/lg-again", "touch", "/shared/go"]
    lab.run("ctl", enter, user="alice", timeout=120)
    said += output.readlines()
    assert "".join(said).splitlines() == FIRST


@pytest.mark.timeout(400)
@pytest.mark.claim("L15")
def test_the_start_before_while_the_pod_runs_and_after(
    lab: Lab, followers: dict[str, "subprocess.Popen[str]"]
) -> None:
    pods.until(
        lambda: logs(lab, "lg-again") if restarts(lab, "lg-again") else "",
        lambda said: said == "second\n",
        seconds=PATIENCE,
        what="the second start",
    )
    assert logs(lab, "lg-again", "--previous").splitlines() == FIRST
    assert logs(lab, "lg-again", "--previous", "--tail=1") == "last of all\n"
    assert logs(lab, "lg-again", "--previous", "--limit-bytes=7") == "first 1"
    assert pods.phase(ended(lab, "lg-once")) == "Succeeded"
    assert logs(lab, "lg-once") == "second\n"
    assert logs(lab, "lg-once", "--previous") == "first\n"


def restarts(lab: Lab, name: str) -> int:
    statuses: Sequence[Object] = pods.get(lab, name)["status"].get("containerStatuses") or ()
    return int(statuses[0]["restartCount"]) if statuses else 0


@pytest.mark.timeout(400)
@pytest.mark.claim("L16")
def test_a_follower_loses_no_line_across_rotations(
    lab: Lab, followers: dict[str, "subprocess.Popen[str]"]
) -> None:
    said, _ = followers["lg-follow"].communicate(timeout=PATIENCE)
    assert said.split() == ["1", str(FOLLOWED), "0", "0"]
    files = state(lab, "lg-follow", "ls main")
    print(f"rotated while it was followed: {files}")
    assert "0.log.3" in files


@pytest.mark.timeout(400)
@pytest.mark.claim("L17")
def test_what_is_kept_of_a_log_is_bounded(
    lab: Lab, followers: dict[str, "subprocess.Popen[str]"]
) -> None:
    """Its end is kept, of which nothing is missing; all files of it are one for `kubectl logs`."""
    assert pods.phase(ended(lab, "lg-flood")) == "Succeeded"
    held = int(state(lab, "lg-flood", "du -sb .").split()[0])
    print(f"{FLOOD * PAD / 2**20:.0f} MiB were written, {held / 2**20:.1f} MiB are kept")
    assert LIMIT * 0.7 < held < LIMIT * 1.01
    files = " ".join(f"main/0.log{end}" for end in (".3", ".2", ".1", ""))
    first, *rest = counted(
        state(lab, "lg-flood", f"cat {files} | cut -d ' ' -f 4- | awk '{COUNT}'")
    )
    assert rest == [FLOOD, 0, 0]
    assert (FLOOD - first) * PAD > LIMIT * 0.7
    # What is oldest comes first, and the tail begins in an older file.
    assert logs(lab, "lg-flood", "--limit-bytes=20").startswith(f"{first} x")
    argv = ["sh", "-c", f"kubectl logs lg-flood --tail=2500 | awk '{COUNT}'"]
    told = lab.run("ctl", argv, user="alice", timeout=250).stdout
    assert counted(told) == [FLOOD - 2499, FLOOD, 0, 0]


def counted(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def state(lab: Lab, name: str, script: str) -> str:
    """What a script says in a pod's directory below its user's home."""
    uid = pods.get(lab, name)["metadata"]["uid"]
    words = ["sh", "-c", f"cd ~/.slurmlet/*/pods/{uid} && {script}"]
    return lab.run("ctl", words, user="alice").stdout
