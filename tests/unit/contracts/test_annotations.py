import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.aliases import ALIASES, FLAG_ALIASES, FOREIGN, REFUSED
from slurmlet.contracts.annotations import (
    FLAGS_ONLY,
    MAX_FLAGS_LENGTH,
    OPTIONS,
    SHORT_OPTIONS,
    Asked,
    normal,
    option_problem,
    read_annotations,
    read_defaults,
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


FLAGS = "slurmlet.io/flags"


def flags(text: str) -> Asked:
    return read_annotations({FLAGS: text})


def asked(name: str, value: str, key: str = FLAGS) -> Asked:
    return Asked(options={name: value}, keys={name: key})


def test_every_option_has_an_example_here() -> None:
    assert GOOD.keys() == OPTIONS.keys()


@pytest.mark.parametrize(("name", "value"), GOOD.items())
def test_each_option_is_read_from_its_own_key_and_from_flags(name: str, value: str) -> None:
    key = f"slurmlet.io/{name}"
    typed = read_annotations({key: value})
    if name in FLAGS_ONLY:
        assert typed == Asked(
            warnings=(f"annotation {key} is unknown and has no effect; correct or remove it",)
        )
    else:
        assert typed == asked(name, value, key)
    word = f"--{name}={value}" if value else f"--{name}"
    assert flags(shlex.quote(word)) == asked(name, value)
    if value:
        assert flags(shlex.join([f"--{name}", value])) == asked(name, value)


@pytest.mark.parametrize(("short", "name"), SHORT_OPTIONS.items())
def test_short_options_in_all_three_spellings(short: str, name: str) -> None:
    value = GOOD[name]
    for words in ([f"-{short}", value], [f"-{short}{value}"], [f"-{short}={value}"]):
        assert flags(shlex.join(words)) == asked(name, value)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_would_change_who_runs_what_is_refused(name: str) -> None:
    for text in (f"--{name}=x", f"--{name} x", f"--{name}"):
        found = flags(text)
        assert found.options == {}
        assert f"--{name} is not allowed" in found.errors[0]


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
    found = read_annotations({FLAGS: "--uid=0 --time=x --qos=a", "slurmlet.io/mem": "much"})
    assert len(found.errors) == 3
    assert found.options == {"qos": "a"}


def test_typed_keys_win_over_flags_and_flags_over_aliases() -> None:
    found = read_annotations(
        {
            "slurmlet.io/time": "3",
            FLAGS: "--time=2 --qos=b",
            "slurm.hpk.io/flags": "--time=1 --qos=a --nice=5",
            "slurmjob.slinky.slurm.net/qos": "z",
            "slurmjob.slinky.slurm.net/nice": "7",
            "slurmjob.slinky.slurm.net/wckey": "k",
        }
    )
    assert found.options == {"time": "3", "qos": "b", "nice": "5", "wckey": "k"}
    assert found.keys == {
        "time": "slurmlet.io/time",
        "qos": FLAGS,
        "nice": "slurm.hpk.io/flags",
        "wckey": "slurmjob.slinky.slurm.net/wckey",
    }


@pytest.mark.parametrize("key", FLAG_ALIASES)
def test_names_of_other_systems_work_and_warn(key: str) -> None:
    found = read_annotations({key: "--ntasks-per-node=1 --time=5"})
    assert found.options == {"ntasks-per-node": "1", "time": "5"}
    (warning,) = found.warnings
    assert key in warning
    assert "use slurmlet.io/flags" in warning


@pytest.mark.parametrize("key", ALIASES)
def test_typed_keys_of_other_systems_work_and_warn(key: str) -> None:
    alias = ALIASES[key]
    value, becomes = alias.example
    found = read_annotations({key: value})
    assert found.errors == ()
    assert found.options == ({} if becomes is None else {alias.option: becomes})
    assert found.warnings == (f"annotation {key} is deprecated; use slurmlet.io/{alias.option}",)
    assert option_problem(alias.option, becomes or "") is None


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("exclusive", "true", {"exclusive": ""}),
        ("exclusive", "False", {}),
        ("cpu-per-task", "200m", {"cpus-per-task": "1"}),
        ("mem-per-node", "1M", {"mem": "1M"}),
        ("gres", "gres/gpu:a100=2, gres/shard=4", {"gres": "gpu:a100:2,shard:4"}),
        ("gres", "gpu:2", {"gres": "gpu:2"}),
        ("max-nodes", "1", {"nodes": "1"}),
        # Python refuses to make a number of so many digits.
        pytest.param("max-nodes", "9" * 5000, {"nodes": "1"}, id="max-nodes-of-5000-digits"),
    ],
)
def test_values_of_slurm_bridge_mean_what_they_meant(
    name: str, value: str, wanted: dict[str, str]
) -> None:
    assert read_annotations({f"slurmjob.slinky.slurm.net/{name}": value}).options == wanted


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("min-nodes", "2", "value '2' for --nodes; a pod runs on one node, use 1"),
        ("max-nodes", "0", "value '0' for --nodes"),
        ("timelimit", "soon", "value 'soon' is not valid for --time"),
        ("cpu-per-task", "many", "value 'many' is not valid for --cpus-per-task"),
        ("mem-per-node", "much", "value 'much' is not valid for --mem"),
    ],
)
def test_a_wrong_value_is_named_with_the_key_of_the_other_system(
    name: str, value: str, said: str
) -> None:
    key = f"slurmjob.slinky.slurm.net/{name}"
    (error,) = read_annotations({key: value}).errors
    assert error.startswith(f"annotation {key}: {said}")


@pytest.mark.parametrize("key", REFUSED)
def test_nothing_on_a_pod_names_a_user(key: str) -> None:
    found = read_annotations({key: "0"})
    assert found.options == {}
    assert found.errors == (
        (
            f"annotation {key}: '0': the administrator's identity map says which user runs the"
            " pods of a namespace; remove it"
        ),
    )


@pytest.mark.parametrize("prefix", FOREIGN)
def test_keys_of_other_systems_without_effect_are_named(prefix: str) -> None:
    found = read_annotations({f"{prefix}surprise": "--uid=0"})
    assert found == Asked(
        warnings=(
            (
                f"annotation {prefix}surprise: of another system, has no effect here; use a key of"
                " slurmlet.io/, or remove it"
            ),
        )
    )


def test_all_keys_without_effect_are_in_one_warning_of_bounded_length() -> None:
    names = [f"slurm-job.vk.io/{number:03}" for number in range(100)]
    (warning,) = read_annotations(dict.fromkeys(names, "x")).warnings
    assert names[0] in warning
    assert "and 95 more" in warning
    assert len(warning) < 256


def test_defaults_of_a_namespace_have_keys_of_their_own() -> None:
    annotations = {
        "ns.slurmlet.io/qos": "low",
        "ns.slurmlet.io/flags": "--qos=b --time=5",
        "ns.slurmlet.io/tiem": "5",
        "slurmlet.io/time": "7",
    }
    assert read_defaults(annotations) == Asked(
        options={"qos": "low", "time": "5"},
        keys={"qos": "ns.slurmlet.io/qos", "time": "ns.slurmlet.io/flags"},
    )
    assert read_annotations(annotations) == Asked(
        options={"time": "7"},
        keys={"time": "slurmlet.io/time"},
        warnings=(
            "annotation ns.slurmlet.io/tiem is unknown and has no effect; correct or remove it",
        ),
    )
    (error,) = read_defaults({"ns.slurmlet.io/time": "soon"}).errors
    assert error.startswith("annotation ns.slurmlet.io/time: value 'soon' is not valid for --time")


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("time", " 30\n", "30"),
        ("partition", "cpu, debug", "cpu,debug"),
        ("mem", "4g", "4G"),
        ("mem", "4Gi", "4G"),
        ("mem-per-cpu", "512MiB", "512M"),
        ("mem", "4096", "4096"),
        ("mem", "4096B", "4096B"),
        ("exclusive", "True", ""),
        ("exclusive", "user", "user"),
        ("mail-type", "end, fail", "END,FAIL"),
        ("qos", "a\nb", "a\nb"),
    ],
)
def test_values_are_written_as_sbatch_reads_them(name: str, value: str, wanted: str) -> None:
    assert normal(name, value) == wanted
    assert normal(name, wanted) == wanted


def test_a_flag_without_value_does_not_swallow_the_next() -> None:
    assert flags("--exclusive --time=5").options == {"exclusive": "", "time": "5"}


def test_other_annotations_are_none_of_our_business() -> None:
    others = {"note": "--uid=0", "slurmlet.io/engine": "crun", "status.slurmlet.io/time": "x"}
    assert read_defaults(others) == Asked()
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
    meant = normal(name, value)
    assert bool(typed.errors) is (option_problem(name, meant) is not None)
    assert typed.options == ({} if typed.errors else {name: meant})
    assert normal(name, meant) == meant


@given(st.dictionaries(st.sampled_from([*ALIASES, *REFUSED, *FLAG_ALIASES]), st.text(max_size=30)))
def test_whatever_other_systems_say_is_an_option_that_the_broker_takes_or_an_error(
    annotations: dict[str, str],
) -> None:
    for name, value in read_annotations(annotations).options.items():
        assert option_problem(name, value) is None
