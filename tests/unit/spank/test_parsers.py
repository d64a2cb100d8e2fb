"""The core's parsers: options, JSON, environment, srun's command line."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.names import job_name
from slurmlet.spank._core import ffi, lib

from .fakeos import message, target_of, text_of

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
INTEGER, STRING, ARRAY, OBJECT = 3, 4, 5, 6


def parse_target(text: bytes) -> tuple[str, str, str] | None:
    target, why = ffi.new("struct slurmlet_target *"), message()
    if lib.slurmlet_target_parse(text, target, why) < 0:
        assert text_of(why).startswith("--k8s-pod=")
        return None
    return (
        ffi.string(target.namespace).decode(),
        ffi.string(target.pod).decode(),
        ffi.string(target.container).decode(),
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("alice/web", ("alice", "web", "")),
        ("alice/web-1.x:main", ("alice", "web-1.x", "main")),
        (f"{'n' * 63}/{'p' * 253}:{'c' * 63}", ("n" * 63, "p" * 253, "c" * 63)),
    ],
)
def test_a_target_is_split(text: str, parts: tuple[str, str, str]) -> None:
    assert parse_target(text.encode()) == parts


@pytest.mark.parametrize(
    "text",
    ["", "web", "/web", "alice/", "alice/web:", "Alice/web", "a/b/c", "a.b/c", "../x", "a/..",
     "a/.b", "a/b.", "a/b..c", "a/-b", "a/b-", "a/b:c.d", "a/b\n", "a/b c", f"{'n' * 64}/p",
     f"n/{'p' * 254}", f"n/p:{'c' * 64}", "ä/b"],
)  # fmt: skip
def test_what_is_no_target_is_refused(text: str) -> None:
    assert parse_target(text.encode()) is None


@given(st.binary(max_size=400).filter(lambda data: b"\0" not in data))
def test_any_bytes_are_refused_or_are_names(data: bytes) -> None:
    parts = parse_target(data)
    if parts is not None:
        namespace, pod, container = parts
        assert LABEL.fullmatch(namespace)
        assert all(LABEL.fullmatch(part) for part in pod.split("."))
        assert not container or LABEL.fullmatch(container)
        assert f"{namespace}/{pod}{':' * bool(container)}{container}".encode() == data


@pytest.mark.parametrize(
    ("text", "mask"),
    [("-net", 8), ("-mnt,-pid", 48), ("-ipc,-uts,-net,-pid,-mnt", 62), ("-user", 1)],
)
def test_namespaces_are_left_out(text: str, mask: int) -> None:
    found = ffi.new("unsigned int *")
    assert lib.slurmlet_left_out_parse(text.encode(), found, ffi.NULL) == 0
    assert found[0] == mask


@pytest.mark.parametrize(
    "text", ["", "net", "-", "-users", "-net,", ",-net", "-ne", "-nett", "-net -mnt"]
)
def test_unknown_namespaces_are_refused(text: str) -> None:
    why = message()
    assert lib.slurmlet_left_out_parse(text.encode(), ffi.new("unsigned int *"), why) < 0
    assert "of -net, -mnt, -pid, -ipc, -uts and -user" in text_of(why)


def test_a_job_is_known_by_the_name_that_the_broker_gives() -> None:
    name = job_name(uid="0123abcd-0000-4000-8000-000000000000", namespace="alice", pod="web")
    assert lib.slurmlet_is_job_name(name.encode(), target_of("alice/web"))


@pytest.mark.parametrize(
    "name",
    ["", "0123abcd", "0123abcd/alice/web2", "0123abcd/alice/we", "0123abc/alice/web", "x" * 300,
     "0123ABCD/alice/web", "0123abcde/alice/web", "0123abcd/alice", "alice/web",
     "0123abcd/alice/web\n", "0123abcd/alicex/web", "0123abcd/alic/web"],
)  # fmt: skip
def test_other_names_are_other_jobs(name: str) -> None:
    assert not lib.slurmlet_is_job_name(name.encode(), target_of("alice/web"))


def parse_json(text: bytes, capacity: int = 8192) -> Any:
    """What the core reads, as Python's own values; raises ValueError where it refuses."""
    buffer = ffi.new("char[]", text) if text else ffi.new("char[1]")
    tokens = ffi.new("struct slurmlet_token[]", capacity)
    count = lib.slurmlet_json_parse(buffer, len(text), tokens, capacity)
    if count < 0:
        raise ValueError(count)

    def value(index: int) -> Any:
        token = tokens[index]
        if token.type == OBJECT:
            pairs, at = {}, index + 1
            while at < token.next:
                pairs[ffi.string(tokens[at].string).decode("utf-8", "surrogatepass")] = value(
                    at + 1
                )
                at = tokens[at + 1].next
            return pairs
        if token.type == ARRAY:
            items, at = [], index + 1
            while at < token.next:
                items.append(value(at))
                at = tokens[at].next
            return items
        if token.type == STRING:
            return ffi.string(token.string).decode("utf-8", "surrogatepass")
        if token.type == INTEGER:
            return token.integer
        return (None, True, False)[token.type]

    assert tokens[0].next == count
    return value(0)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_json_is_read_as_python_writes_it(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert parse_json(text.encode()) == value


@given(
    st.binary(max_size=60)
    | st.text('[]{}",:0123456789-tfnulrase\\ \n', max_size=60).map(str.encode)
)
def test_json_that_python_refuses_is_refused(data: bytes) -> None:
    try:
        found = parse_json(data)
    except ValueError:
        return
    assert json.loads(data.decode("utf-8", "surrogateescape")) == found or not data.isascii()


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "[1,]", '{"a":1,}', '{"a"}', "01", "-", "1.5", "1e3", "9223372036854775808",
     "-9223372036854775809", '"\\u0000"', '"\\ud800"', '"\\udc00"', '"\\ud800\\u0041"', '"\\x"',
     '"a', '"\t"', "nul", "nulll", "[1]2", "NaN", "'a'", "{1:2}", '"\0"'],
)  # fmt: skip
def test_json_is_strict(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text.encode())


def test_json_has_bounds() -> None:
    parse_json(b"[" * 16 + b"]" * 16)
    with pytest.raises(ValueError):
        parse_json(b"[" * 17 + b"]" * 17)
    with pytest.raises(ValueError):
        parse_json(b"[1,2,3]", capacity=3)


def test_a_member_given_twice_is_refused() -> None:
    text = b'{"a":1,"b":{"a":2},"a":3}'
    buffer, tokens = ffi.new("char[]", text), ffi.new("struct slurmlet_token[]", 16)
    assert lib.slurmlet_json_parse(buffer, len(text), tokens, 16) > 0
    assert lib.slurmlet_json_member(tokens, 0, b"a") == -22
    assert lib.slurmlet_json_member(tokens, 0, b"b") > 0
    assert lib.slurmlet_json_member(tokens, 0, b"c") == -2


def words(values: list[str]) -> tuple[Any, list[Any]]:
    kept = [ffi.new("char[]", value.encode()) for value in values]
    return ffi.new("char *[]", [*kept, ffi.NULL]), kept


def unpack(result: Any) -> list[str]:
    found, at = [], 0
    while result[at] != ffi.NULL:
        found.append(ffi.string(result[at]).decode(errors="surrogateescape"))
        at += 1
    lib.free(result)
    return found


def merge(own: list[str], pod: bytes) -> list[str]:
    mine, _kept = words(own)
    text = ffi.new("char[]", pod)
    return unpack(lib.slurmlet_environment_merge(mine, text, len(pod)))


def test_the_pod_wins_but_not_over_slurm() -> None:
    own = ["PATH=/host", "SLURM_JOB_ID=1", "CUDA_VISIBLE_DEVICES=0", "MINE=1", "PMI_FD=7"]
    pod = b"PATH=/pod\0SLURM_JOB_ID=666\0CUDA_VISIBLE_DEVICES=all\0PMI_RANK=9\0PMIX_RANK=1\0A=b=c\0"
    assert merge(own, pod) == ["PATH=/pod", "A=b=c", *own[1:]]


def test_what_is_true_of_the_host_alone_stays_there() -> None:
    own = [
        "LD_PRELOAD=/x",
        "LD_LIBRARY_PATH=/y",
        "TMPDIR=/tmp/1",
        "PWD=/home",
        "BASH_ENV=/z",
        "E=1",
    ]
    assert merge(own, b"LD_LIBRARY_PATH=/pod\0") == ["LD_LIBRARY_PATH=/pod", "E=1"]


@given(st.lists(TEXT, max_size=8), st.binary(max_size=200))
def test_any_environment_is_merged(own: list[str], pod: bytes) -> None:
    merged = merge(own, pod)
    assert all("=" in entry[1:] for entry in merged) or any(e.startswith("=") for e in own)


def read_srun(argv: list[str], command: int) -> Any:
    srun, (mine, kept) = ffi.new("struct slurmlet_srun *"), words(argv)
    lib.slurmlet_srun_read(len(argv), mine, command, srun)
    return srun, mine, kept


def again(argv: list[str], command: int, config: str | None = None) -> list[str]:
    srun, mine, _kept = read_srun(argv, command)
    options, _also = words(["--k8s-pod=a/b", "--job-name=c"])
    text = ffi.new("char[]", config.encode()) if config else ffi.NULL
    return unpack(lib.slurmlet_srun_words(len(argv), mine, command, srun, options, b"/guard", text))


def test_the_guard_stands_before_the_command() -> None:
    argv = ["srun", "-n2", "--k8s-pod", "a/b", "sh", "-c", "--jobid=7 -D x"]
    assert again(argv, 4) == [
        "srun", "--k8s-pod=a/b", "--job-name=c", *argv[1:4], "/guard", *argv[4:],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "chdir", [["-D", "/pod"], ["-D/pod"], ["--chdir=/pod"], ["--chdir", "/pod"], ["--chd", "/pod"]]
)
def test_chdir_is_taken_out_because_it_is_the_pods(chdir: list[str]) -> None:
    argv = ["srun", *chdir, "-n1", "pwd", "-D", "x"]
    srun, _, _kept = read_srun(argv, len(chdir) + 2)
    assert ffi.string(srun.directory) == b"/pod"
    assert again(argv, len(chdir) + 2)[3:] == ["-n1", "/guard", "pwd", "-D", "x"]


@pytest.mark.parametrize(
    ("argv", "refused"),
    [
        (["srun", "--bcast", "x"], "--bcast"),
        (["srun", "--bcast=/tmp/x", "x"], "--bcast"),
        (["srun", "--container=/x", "x"], "--container"),
        (["srun", "x", ":", "y"], "a heterogeneous step (:)"),
        (["srun", "-n1", "x"], None),
    ],
)
def test_what_does_not_go_together_is_found(argv: list[str], refused: str | None) -> None:
    srun, _, _kept = read_srun(argv, 2 if argv[1].startswith("-") else 1)
    found = None if srun.refused == ffi.NULL else ffi.string(srun.refused).decode()
    assert found == refused


def test_a_command_says_nothing_of_srun() -> None:
    srun, _, _kept = read_srun(["srun", "sh", "--jobid=1", "--multi-prog", "--bcast"], 1)
    assert (srun.job_given, srun.multi_prog, srun.refused) == (False, False, ffi.NULL)
    srun, _, _kept = read_srun(["srun", "--jobid=1", "--multi-prog", "conf"], 3)
    assert (srun.job_given, srun.multi_prog) == (True, True)
    assert again(["srun", "--multi-prog", "conf", "a"], 2, "/fd")[3:] == [
        "--multi-prog",
        "/fd",
        "a",
    ]


@pytest.mark.parametrize(
    ("text", "guarded"),
    [
        ("0 hostname\n1-3 echo %t\n", "0 /g hostname\n1-3 /g echo %t\n"),
        ("# all\n\n*\tsh -c 'a b'", "# all\n\n*\t/g sh -c 'a b'"),
        ("0 echo a \\\nb\n1 x\n", "0 /g echo a \\\nb\n1 /g x\n"),
        ("0\n", "0\n"),
        ("", ""),
    ],
)
def test_every_program_of_multi_prog_is_guarded(text: str, guarded: str) -> None:
    result = lib.slurmlet_srun_programs(text.encode(), b"/g")
    assert ffi.string(result).decode() == guarded
    lib.free(result)


def test_a_foreign_jobs_variables_are_left_behind() -> None:
    own, _kept = words(
        ["A=1", "SLURM_NTASKS=4", "SLURM_JOB_ID=9", "SLURM_CONF=/c", "SLURM_OVERLAP=0"]
    )
    added, _also = words(["SLURM_JOB_ID=12", "SLURM_OVERLAP=1"])
    found = unpack(lib.slurmlet_srun_environment(own, True, added))
    assert found == ["A=1", "SLURM_CONF=/c", "SLURM_JOB_ID=12", "SLURM_OVERLAP=1"]
    found = unpack(lib.slurmlet_srun_environment(own, False, added))
    assert found == ["A=1", "SLURM_NTASKS=4", "SLURM_CONF=/c", "SLURM_JOB_ID=12", "SLURM_OVERLAP=1"]
