"""Slurm's reasons: each of both releases has plain words, and no text breaks them."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.kubelet.slurm.reasons import MAX_SAID, explain, family, reason_of
from slurmlet.kubelet.slurm.reasontable import LIMITS, SENTENCES, TABLE

# Names of job_state_reason_string of each release, read from its source.
RELEASES = {
    path.stem.removeprefix("reasons-"): path.read_text().split()
    for path in sorted(Path(__file__).parent.glob("reasons-*.txt"))
}
NAMES = [(release, name) for release, names in RELEASES.items() for name in names]
EVERY = sorted({name for _, name in NAMES})
LIMITED = re.compile("(Assoc|QOS)(Grp|Max|Min)|Max.*Per(Account|User)$")


def told(text: str, **asked: str) -> str:
    return explain(text, asked=asked)


def test_both_releases_are_listed() -> None:
    assert {release: len(names) for release, names in RELEASES.items()} == {
        "24.11": 216,
        "26.05": 216,
    }


@pytest.mark.claim("Q1")
@pytest.mark.parametrize(("release", "name"), NAMES)
def test_every_reason_of_a_release_has_plain_words(release: str, name: str) -> None:
    reason = reason_of(name)
    assert reason is not None, f"no row for {name} of Slurm {release}"
    text = told(name)
    assert text.startswith(f"{name}: ")
    assert text.endswith(f"; {reason.then}")
    assert not re.search(r"[{}]|  |\bNone\b", text.removeprefix("None: "))
    assert len(text) < 500


def test_no_row_is_of_no_release() -> None:
    assert set(TABLE) <= set(EVERY)
    assert {family(name) for name in EVERY} == {*LIMITS, ""}


@pytest.mark.claim("Q2")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("QOSMaxJobsPerUserLimit", "you have as many jobs running as QOS fast allows;"),
        ("AssocMaxJobsLimit", "you have as many jobs running as your account allows;"),
        ("AssocGrpCpuLimit", "jobs of your account would have more CPUs than they may together;"),
        ("QOSGrpMemLimit", "jobs of QOS fast would have more memory than they may together;"),
        ("AssocGrpCPUMinutesLimit", "jobs of your account would use up more minutes of CPUs"),
        ("AssocGrpGRESRunMinutes", "more minutes of GPUs or other generic resources before them"),
        ("QOSGrpCPURunMinutesLimit", "jobs of QOS fast would have more minutes of CPUs before"),
        ("QOSMaxCpuPerUserLimit", "your running jobs would have more CPUs than QOS fast allows a"),
        ("MaxMemoryPerAccount", "your account would have more memory than QOS fast allows;"),
        ("MaxCpuRunMinsPerUser", "more minutes of CPUs before them than QOS fast allows a user;"),
        ("MaxNodeRunMinsPerAccount", "minutes of nodes before them than QOS fast allows;"),
        ("QOSMaxGRESPerJob", "it asks for more GPUs or other generic resources than QOS fast"),
        ("AssocMaxMemPerNode", "it asks for more memory on a node than your account allows;"),
        ("QOSMaxCpuMinutesPerJobLimit", "it asks for more minutes of CPUs than QOS fast allows a"),
        ("QOSMinCpuNotSatisfied", "QOS fast demands more CPUs of a job than it asks for;"),
        ("QOSMaxWallDurationPerJobLimit", "it asks for more time than QOS fast allows a job;"),
    ],
)
def test_limits_are_named_with_whose_they_are(name: str, words: str) -> None:
    assert words in told(name, qos="fast")
    assert "{qos}" not in told(name)


@pytest.mark.claim("Q3")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Priority", "jobs with a higher priority wait for the same nodes; it starts after them"),
        ("Resources", "what it asks for is not free now; it is one of the next"),
        ("Licenses", "licences that it asks for are in use; it starts when other jobs give"),
        ("BeginTime", "its time has not come (annotation slurmlet.io/begin); it may start from"),
        ("Dependency", "what it depends on has not happened yet"),
        ("Reservation", "its reservation has not begun, or has no room now"),
    ],
)
def test_what_passes_by_itself(name: str, words: str) -> None:
    reason = reason_of(name)
    assert reason
    assert not reason.lasting
    assert words in told(name)


@pytest.mark.claim("Q4")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "ReqNodeNotAvail, UnavailableNodes:c[1-2]",
            "nodes that it needs are down, drained or reserved; it starts when they are back",
        ),
        ("ReqNodeNotAvail, May be reserved for other job", "are down, drained or reserved"),
        ("ReqNodeNotAvail, Reserved for maintenance", "before if it asks for less time"),
        (
            "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority part",
            "nodes that it may have are down, drained or kept for jobs of other partitions",
        ),
        ("PartitionDown", "no jobs start in partition gpu, which is down"),
        ("PartitionInactive", "no jobs start in partition gpu, which is inactive"),
        ("No suitable topology unit found", "no part of the network has all"),
        ("Insufficient resources in topology unit", "no part of the network has all"),
    ],
)
def test_what_is_not_there_now(text: str, words: str) -> None:
    said = told(text, partition="gpu")
    assert said.startswith(f"{text}: ")
    assert words in said
    reason = reason_of(text)
    assert reason
    assert not reason.lasting


@pytest.mark.claim("Q5")
@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("JobHeldUser", "scontrol release"),
        ("JobHeldAdmin", "ask the administrator to release it"),
        ("job requeued in held state", "scontrol release"),
        ("launch failed requeued held", "ask the administrator what is wrong"),
        ("launch failure limit exceeded requeued held", "ask the administrator what is wrong"),
        ("user env retrieval failed requeued held", "ask the administrator what is wrong"),
        ("DependencyNeverSatisfied", "without the annotation slurmlet.io/dependency"),
        ("Reservation course was deleted", "slurmlet.io/reservation"),
        ("Reservation course is invalid", "slurmlet.io/reservation"),
        ("License request 'matlab:9' is no longer valid, holding job", "slurmlet.io/licenses"),
        ("PartitionTimeLimit", "slurmlet.io/time"),
        ("PartitionConfig", "slurmlet.io/partition"),
        ("BadConstraints", "slurmlet.io/constraint"),
        ("InvalidAccount", "slurmlet.io/account"),
        ("InvalidQOS", "slurmlet.io/qos"),
        ("QOSMaxNodePerJobLimit", "ask for less"),
        ("QOSMinGRES", "ask for more"),
        ("Job's QOS not permitted to use this partition (gpu allows a not b)", "slurmlet.io/qos"),
        (
            "uid 2001 not in group permitted to use this partition (gpu). groups allowed: chem",
            "slurmlet.io/account",
        ),
        (
            "burst_buffer/lua: slurm_bb_data_in: no such pool",
            "ask the administrator",
        ),
    ],
)
def test_what_no_waiting_helps_has_a_remedy(text: str, remedy: str) -> None:
    reason = reason_of(text)
    assert reason
    assert reason.lasting
    assert remedy in reason.then
    assert told(text).startswith(f"{text}: ")


def test_a_limit_of_one_job_is_lasting_and_one_of_many_is_not() -> None:
    limits = [name for name in EVERY if LIMITED.match(name)]
    assert len(limits) > 150
    for name in limits:
        reason = reason_of(name)
        assert reason
        alone = re.search("PerJob|PerNode|^QOSMin", name) is not None
        assert reason.lasting == alone, name


@pytest.mark.claim("Q9")
@given(st.text(max_size=2000), st.text(max_size=300))
def test_whatever_slurm_says_is_one_bounded_line(text: str, name: str) -> None:
    said = told(text, qos=name, partition=name)
    assert len(said) < MAX_SAID + 500
    assert all(character.isprintable() for character in said)


@pytest.mark.claim("Q9")
@given(
    st.sampled_from(EVERY),
    st.text(alphabet="ab:c[1-2],(){} \n\t\x00\u202e", max_size=400),
    st.sampled_from([",", ", ", ":", " ", "("]),
)
def test_details_behind_a_reason_do_not_hide_it(name: str, details: str, between: str) -> None:
    assert reason_of(f"{name}{between}{details}") is not None
    assert reason_of(f" {name} ") == reason_of(name)


def test_what_is_not_known_is_told_as_it_is() -> None:
    assert reason_of("InvaildReason") is None
    assert told("InvaildReason") == "InvaildReason"
    assert told("Some words, of a newer Slurm") == "Some words, of a newer Slurm"


def test_names_are_never_templates() -> None:
    assert "QOS {partition}{0} allows" in told("QOSMaxJobsPerUserLimit", qos="{partition}{0}")


def test_every_sentence_has_a_row() -> None:
    assert all(reason.means and reason.then for reason in SENTENCES.values())
