"""Pod and image together: what is run, as whom."""

from pathlib import Path
from typing import Any

import pytest

from slurmlet.supervisor.engines.interface import DEFAULT_CAPABILITIES, ContainerSpec
from slurmlet.supervisor.images import Image
from slurmlet.supervisor.spec import SpecError, container_spec, signal_number

from .plans import make_plan

PASSWD = "root:x:0:0::/root:/bin/sh\nwww:x:33:34:web:/var/www:/bin/sh\nbroken\n"
GROUP = "root:x:0:\nwww:x:35:\nstaff:x:50:www,x\n"


def make(
    container: dict[str, Any] | None = None,
    *,
    ids: int = 65536,
    pod_security: dict[str, Any] | None = None,
    own: dict[str, str] | None = None,
    **image: Any,
) -> ContainerSpec:
    container = {"name": "main", **(container or {})}
    return container_spec(
        container,
        plan=make_plan([container], securityContext=pod_security or {}),
        image=Image(name="x", image_id="x", rootfs=Path("/r"), **{"command": ("sh",), **image}),
        own=own or {},
        mounts=(),
        passwd=PASSWD,
        group=GROUP,
        ids=ids,
    )


@pytest.mark.parametrize(
    ("container", "arguments"),
    [
        ({}, ("/entry", "cmd")),
        ({"args": ["a"]}, ("/entry", "a")),
        ({"command": ["c"]}, ("c",)),
        ({"command": ["c"], "args": ["a", "-b"]}, ("c", "a", "-b")),
        ({"command": ["$(A)", "$(NO)", "$$(A)"]}, ("1", "$(NO)", "$(A)")),
    ],
)
def test_command_and_args_replace_the_images(
    container: dict[str, Any], arguments: tuple[str, ...]
) -> None:
    spec = make(container, entrypoint=("/entry",), command=("cmd",), own={"A": "1"})
    assert spec.arguments == arguments


def test_the_images_words_are_not_expanded() -> None:
    assert make(entrypoint=("$(A)",), command=(), own={"A": "1"}).arguments == ("$(A)",)


def test_no_command_at_all() -> None:
    with pytest.raises(SpecError, match="no command specified"):
        make(command=())


@pytest.mark.parametrize(
    ("image_user", "security", "expected"),
    [
        ("", {}, (0, 0, "/root")),
        ("www", {}, (33, 34, "/var/www")),
        ("33", {}, (33, 34, "/var/www")),
        ("www:staff", {}, (33, 50, "/var/www")),
        ("1000:1001", {}, (1000, 1001, "/")),
        ("www", {"runAsUser": 1000}, (1000, 0, "/")),
        ("", {"runAsUser": 33, "runAsGroup": 7}, (33, 7, "/var/www")),
    ],
)
def test_users(image_user: str, security: dict[str, Any], expected: tuple[int, int, str]) -> None:
    spec = make({"securityContext": security}, user=image_user)
    assert (spec.uid, spec.gid, spec.environment["HOME"]) == expected


def test_the_container_wins_over_the_pod() -> None:
    spec = make({"securityContext": {"runAsUser": 5}}, pod_security={"runAsUser": 6})
    assert spec.uid == 5


def test_groups_are_those_of_image_pod_and_volumes() -> None:
    spec = make(user="www", pod_security={"supplementalGroups": [7], "fsGroup": 8})
    assert spec.groups == (50, 7, 8)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"user": "nobody-here"}, "unable to find user nobody-here"),
        ({"user": "www:none"}, "unable to find group none"),
        ({"user": "4294967295"}, "out of range"),
        ({"user": "1000", "ids": 1}, "not among the 1 ids"),
        ({"container": {"securityContext": {"runAsNonRoot": True}}}, "runAsNonRoot and image"),
    ],
)
def test_users_that_cannot_be(kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        make(**kwargs)


def test_the_images_environment_comes_first() -> None:
    spec = make(environment=("PATH=/x", "A=image", "B=image", "odd"), own={"A": "pod"})
    assert spec.environment == {
        "PATH": "/x",
        "HOSTNAME": "web",
        "HOME": "/root",
        "A": "pod",
        "B": "image",
    }


def test_capabilities() -> None:
    assert make().capabilities == DEFAULT_CAPABILITIES
    security = {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}
    assert make({"securityContext": security}).capabilities == ("CAP_NET_BIND_SERVICE",)
    security = {"capabilities": {"drop": ["CHOWN"], "add": ["SYS_PTRACE"]}}
    got = make({"securityContext": security}).capabilities
    assert set(got) ^ set(DEFAULT_CAPABILITIES) == {"CAP_CHOWN", "CAP_SYS_PTRACE"}


def test_flags() -> None:
    plain = make()
    assert plain.privilege_escalation
    assert not plain.read_only
    security = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}
    tight = make({"securityContext": security, "workingDir": "/w"}, directory="/image")
    assert not tight.privilege_escalation
    assert tight.read_only
    assert tight.directory == "/w"


@pytest.mark.parametrize(
    ("text", "number"), [("", 15), ("SIGQUIT", 3), ("QUIT", 3), ("9", 9), ("nonsense", 15)]
)
def test_stop_signals(text: str, number: int) -> None:
    assert signal_number(text) == number
