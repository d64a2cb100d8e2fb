import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.annotations import (
    FLAG_ALIASES,
    FLAGS_ONLY,
    MAX_FLAGS_LENGTH,
    OPTIONS,
    SHORT_OPTIONS,
    Asked,
    option_problem,
    read_annotations,
)

FORBIDDEN = [
    "uid",
    "gid",
    "chdir",
    "export",
    "export-file",
    "wrap",
    "output",
    "error",
    "input",
    "job-name",
    "comment",
    "requeue",
    "array",
    "het-group",
    "get-user-env",
    "propagate",
    "signal",
    "container",
    "bb",
    "bbf",
    "parsable",
    "wait",
    "test-only",
]

GOOD = {
    "account": "phys",
    "partition": "cpu,debug",
    "qos": "normal",
    "time": "1-02:03:04",
    "nodes": "1",
    "ntasks": "4",
    "ntasks-per-node": "4",
    "cpus-per-task": "2",
    "mem": "4G",
    "mem-per-cpu": "512M",
    "gres": "gpu:a100:2,lscratch:10G",
    "gpus": "a100:2",
    "constraint": "[rack1|rack2]&ib",
    "reservation": "maint",
    "licenses": "matlab:2",
    "dependency": "afterok:123:124,afterany:7",
    "exclusive": "",
    "wckey": "project-1",
    "nice": "100",
    "begin": "2027-01-01T00:00:00",
    "deadline": "now+1hour",
    "hint": "nomultithread",
    "exclude": "c[1-2],c7",
    "nodelist": "c1",
    "threads-per-core": "1",
    "mail-type": "END,FAIL",
    "mail-user": "alice@example.org",
}


def flags(text: str) -> Asked:
    return read_annotations({"slurmlet.io/flags": text})


def test_every_option_has_an_example_here() -> None:
    assert GOOD.keys() == OPTIONS.keys()


@pytest.mark.parametrize(("name", "value"), GOOD.items())
def test_each_option_is_read_from_its_own_key_and_from_flags(name: str, value: str) -> None:
    typed = read_annotations({f"slurmlet.io/{name}": value})
    assert typed == Asked(options={} if name in FLAGS_ONLY else {name: value})
    word = f"--{name}={value}" if value else f"--{name}"
    assert flags(shlex.quote(word)) == Asked(options={name: value})
    if value:
        assert flags(shlex.join([f"--{name}", value])) == Asked(options={name: value})


@pytest.mark.parametrize(("short", "name"), SHORT_OPTIONS.items())
def test_short_options_in_all_three_spellings(short: str, name: str) -> None:
    value = GOOD[name]
    for words in ([f"-{short}", value], [f"-{short}{value}"], [f"-{short}={value}"]):
        assert flags(shlex.join(words)) == Asked(options={name: value})


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_would_change_who_runs_what_is_refused(name: str) -> None:
    for text in (f"--{name}=x", f"--{name} x", f"--{name}"):
        asked = flags(text)
        assert asked.options == {}
        assert f"--{name} is not allowed" in asked.errors[0]


@pytest.mark.parametrize("text", ["-D /tmp", "-J x", "-o /x", "-e /x", "-i x", "-a 1-9", "-H"])
def test_short_forms_of_what_is_refused(text: str) -> None:
    assert flags(text).options == {}
    assert flags(text).errors


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("--time", "--time needs a value"),
        ("--time=", "not valid for --time"),
        ("--time=1;rm", "not valid for --time"),
        ("--nodes=2", "a pod runs on one node"),
        ("-N 1-2", "a pod runs on one node"),
        ("--time=5 stray", "'stray' is no option"),
        ("--", "'--' is no option"),
        ("-", "'-' is no option"),
        ("'unclosed", "check its quotes"),
        ("--time=5\x00", "control character"),
        ("--time=5\x1b[0m", "control character"),
        ("--qos=$(id)", "not valid for --qos"),
        ("--qos='a --uid=0'", "not valid for --qos"),
        ("--account=-x", "not valid for --account"),
        ("--mem=0", "not valid for --mem"),
        ("x" * (MAX_FLAGS_LENGTH + 1), "longer than"),
        ("--exclusive=all", "not valid for --exclusive"),
    ],
)
def test_a_mistake_is_named_with_its_annotation(text: str, said: str) -> None:
    (error,) = flags(text).errors
    assert error.startswith("annotation slurmlet.io/flags: ")
    assert said in error


def test_every_mistake_is_reported() -> None:
    asked = read_annotations(
        {"slurmlet.io/flags": "--uid=0 --time=x --qos=a", "slurmlet.io/mem": "much"}
    )
    assert len(asked.errors) == 3
    assert asked.options == {"qos": "a"}


def test_typed_keys_win_over_flags_and_flags_over_aliases() -> None:
    asked = read_annotations(
        {
            "slurmlet.io/time": "3",
            "slurmlet.io/flags": "--time=2 --qos=b",
            "slurm.hpk.io/flags": "--time=1 --qos=a --nice=5",
        }
    )
    assert asked.options == {"time": "3", "qos": "b", "nice": "5"}


@pytest.mark.parametrize("key", FLAG_ALIASES)
def test_names_of_other_systems_work_and_warn(key: str) -> None:
    asked = read_annotations({key: "--ntasks-per-node=1 --time=5"})
    assert asked.options == {"ntasks-per-node": "1", "time": "5"}
    (warning,) = asked.warnings
    assert key in warning
    assert "use slurmlet.io/flags" in warning


def test_a_flag_without_value_does_not_swallow_the_next() -> None:
    assert flags("--exclusive --time=5").options == {"exclusive": "", "time": "5"}


def test_other_annotations_are_none_of_our_business() -> None:
    others = {"note": "--uid=0", "slurmlet.io/engine": "crun", "status.slurmlet.io/time": "x"}
    assert read_annotations(others) == Asked()


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(["--", "-", "=", "time", "5", " ", "'", "-c"])).map("".join)
)
def test_whatever_is_accepted_is_one_word_that_cannot_become_an_option(text: str) -> None:
    for name, value in flags(text).options.items():
        assert option_problem(name, value) is None
        assert not any(character.isspace() or ord(character) < 32 for character in value)
        assert not value.startswith("-") or name == "nice"
        assert name not in FORBIDDEN


@given(st.sampled_from(sorted(OPTIONS.keys() - FLAGS_ONLY)), st.text(max_size=30))
def test_typed_keys_accept_the_same_values_as_flags(name: str, value: str) -> None:
    typed = read_annotations({f"slurmlet.io/{name}": value})
    assert bool(typed.errors) is (option_problem(name, value) is not None)
    assert typed.options == ({} if typed.errors else {name: value})
