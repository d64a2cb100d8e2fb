"""Questions to Slurm: how they are asked, and that no answer is made up."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kubelet.fakes import FakeJob, FakeSlurm

from slurmlet.kubelet.slurm import privacy
from slurmlet.kubelet.slurm.process import CommandError, Commands
from slurmlet.kubelet.slurm.query import _LIVE, _PAST, JobFacts, Slurm, _live_job, _past_job


async def test_all_jobs_are_asked_for_at_once() -> None:
    fake = FakeSlurm(jobs={number: FakeJob(state="RUNNING", node="c1") for number in range(1, 900)})
    found = await Slurm(fake.run).live(range(1, 1000))
    assert len(found) == 899
    assert found[7] == JobFacts(
        job_id=7, state="RUNNING", uid=1001, nodes="c1", started=1_767_225_600, reason="Priority"
    )
    assert [argv[0] for argv in fake.calls].count("squeue") == 1


def test_no_format_holds_what_a_user_can_write() -> None:
    """Job, state, uid, nodes, start and reason: neither name nor comment, which may hold lines."""
    assert set(re.findall("%[A-Za-z]", _LIVE)) == {"%i", "%T", "%U", "%N", "%S", "%r"}
    assert set(_PAST.split(",")) == {"JobIDRaw", "State", "ExitCode", "UID", "NodeList", "Start"}


async def test_a_single_id_is_given_twice() -> None:
    # squeue -j of one id that was purged fails, and that would be no information.
    fake = FakeSlurm(jobs={5: FakeJob()})
    await Slurm(fake.run).live([5])
    assert fake.calls[0][fake.calls[0].index("-j") + 1] == "5,5"


async def test_jobs_that_slurmctld_forgot_are_absent() -> None:
    fake = FakeSlurm(jobs={5: FakeJob(forgotten=True)})
    assert await Slurm(fake.run).live([5]) == {}


async def test_what_is_no_job_id_spoils_no_question() -> None:
    """A supervisor's hello and a pod's annotation can hold any number."""
    fake = FakeSlurm(jobs={5: FakeJob(state="RUNNING")})
    found = await Slurm(fake.run).live([0, -1, 5, 2**31, 2**32 - 1, 2**70])
    assert list(found) == [5]
    assert await Slurm(fake.run).live([0, 2**32 - 1]) == {}
    assert len(fake.calls) == 1


async def test_a_refused_question_is_no_answer() -> None:
    async def refused(_: object) -> str:
        raise CommandError("squeue: exit code 1: squeue: error: Invalid job id: 0")

    with pytest.raises(CommandError):
        await Slurm(refused).live([5])


async def test_silence_is_not_absence() -> None:
    fake = FakeSlurm(jobs={5: FakeJob()}, silent=True)
    with pytest.raises(CommandError):
        await Slurm(fake.run).live([5])
    with pytest.raises(CommandError):
        await Slurm(fake.run).past([5])
    with pytest.raises(CommandError):
        await Slurm(fake.run).named(user="alice", name="x")


@pytest.mark.parametrize("level", ["None", "", None])
async def test_a_hidden_job_is_not_absent(level: str | None) -> None:
    """PrivateData=jobs: to squeue another user's job is an invalid job id."""
    slurm = Slurm(FakeSlurm(jobs={5: FakeJob()}, private="accounts,jobs,usage", level=level).run)
    with pytest.raises(CommandError, match="sacctmgr"):
        await slurm.named(user="alice", name="web")
    slurm = Slurm(FakeSlurm(jobs={5: FakeJob()}, private="jobs").run)
    assert "set AdminLevel=Operator" in await slurm.hidden(await slurm.settings())
    with pytest.raises(CommandError, match="PrivateData=jobs"):
        await slurm.live([5])


async def test_an_operator_sees_what_is_hidden_also_while_the_accounting_is_away() -> None:
    fake = FakeSlurm(jobs={5: FakeJob()}, private="jobs", level="Operator")
    slurm = Slurm(fake.run)
    assert await slurm.hidden(await slurm.settings()) == ""
    assert list(await slurm.live([5, 6])) == [5]
    fake.level = None
    assert await slurm.hidden(await slurm.settings()) == ""


async def test_what_may_be_hidden_is_not_absent_while_the_accounting_is_away() -> None:
    fake = FakeSlurm(jobs={5: FakeJob()})
    slurm = Slurm(fake.run)
    assert (await slurm.hidden(await slurm.settings()), await slurm.live([6])) == ("", {})
    # A reconfiguration, of which slurmdbd cannot say whom it concerns.
    fake.private, fake.level = "jobs", None
    with pytest.raises(CommandError, match="slurmdbd"):
        await slurm.hidden(await slurm.settings())
    for asked in (slurm, Slurm(fake.run)):
        with pytest.raises(CommandError, match="slurmdbd"):
            await asked.live([5, 6])
        with pytest.raises(CommandError, match="slurmdbd"):
            await asked.named(user="alice", name="web")


@pytest.mark.parametrize(
    ("said", "hides"),
    [("none", False), ("(null)", False), ("jobs", True), ("accounts,jobs", True), ("usage", False)],
)
def test_private_jobs_are_read_in_the_configuration(said: str, hides: bool) -> None:
    config = f"PriorityType            = priority/multifactor\nPrivateData             = {said}\n"
    assert privacy.hides_jobs(config, user="slurmlet") is hides
    assert not privacy.hides_jobs(config, user="root")
    config += "SlurmUser               = slurm(64030)\n"
    assert not privacy.hides_jobs(config, user="slurm")


async def test_accounting_tells_exit_codes() -> None:
    jobs = {
        1: FakeJob(state="FAILED", exit_code="7:0"),
        2: FakeJob(state="CANCELLED by 2001", exit_code="0:15"),
    }
    past = await Slurm(FakeSlurm(jobs=jobs).run).past([1, 2])
    assert past[1].exit_code == 7
    assert past[2].exit_code == 143
    assert past[2].state == "CANCELLED by 2001"


async def test_accounting_is_asked_for_the_part_of_a_name_that_it_keeps() -> None:
    name = f"11111111/alice/{'a' * 253}"
    slurm = FakeSlurm(jobs={1: FakeJob(state="COMPLETED", node="c1", name=name[:255])})
    found = await Slurm(slurm.run).past_named(user="alice", name=name, since=0)
    assert [job.job_id for job in found] == [1]


@given(st.text(max_size=80))
def test_no_line_crashes_the_parsers(line: str) -> None:
    for parse in (_live_job, _past_job):
        job = parse(line)
        assert job is None or job.job_id >= 0


@pytest.mark.parametrize("start", ["253402300799", "9" * 20, "9" * 5000, "0", "N/A"])
def test_a_start_that_is_no_date_is_none(start: str) -> None:
    """253402300799 is a second before the year 10000, and times of pods are full minutes."""
    job = _live_job(f"7|PENDING|1001||{start}|BeginTime")
    assert job is not None
    assert job.started is None


def test_other_kinds_of_jobs_are_not_ours() -> None:
    assert _live_job("12_[1-5]|PENDING|1001||N/A|Priority") is None
    assert _past_job("12.batch|COMPLETED|0:0|1001|c1|1767225600") is None


async def test_a_command_that_hangs_is_killed() -> None:
    with pytest.raises(CommandError, match="no answer in 0 s"):
        await Commands("/bin", timeout=0.2).run(["sleep", "60"])


async def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(CommandError, match=r"exit code 2: .*nosuch"):
        await Commands("/bin").run(["ls", "/nosuch"])
    with pytest.raises(CommandError, match="No such file"):
        await Commands("/nosuch").run(["squeue"])


async def test_inherited_options_of_slurm_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUEUE_FORMAT", "%j")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/other.conf")
    environment = (await Commands("/usr/bin").run(["env"])).splitlines()
    assert "SLURM_CONF=/etc/slurm/other.conf" in environment
    assert "SLURM_TIME_FORMAT=%s" in environment
    assert not [line for line in environment if line.startswith("SQUEUE")]
