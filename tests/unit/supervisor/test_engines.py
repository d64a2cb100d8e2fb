"""What the engines are told."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from slurmlet.supervisor.anchor import Anchor
from slurmlet.supervisor.engines import engine_of
from slurmlet.supervisor.engines.apptainer import Apptainer, arguments
from slurmlet.supervisor.engines.crun import Crun, oci_config
from slurmlet.supervisor.engines.interface import ContainerSpec, Mount, Place


class Below:
    """An anchor whose mount namespace is a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {"PATH": "/bin"}

    def path(self, inner: str) -> Path:
        return Path(f"{self.root}{inner}")


def place(root: Path, **changes: str) -> Place:
    for name in ("rootfs/etc", "bundle"):
        (root / name).mkdir(parents=True)
    anchor = cast(Anchor, Below(root))
    return Place(id="c-1", rootfs="/rootfs", bundle="/bundle", anchor=anchor, **changes)


def spec(**changes: Any) -> ContainerSpec:
    values: dict[str, Any] = {
        "arguments": ("sh", "-c", "--x", "$(touch /tmp/x)\n'\""),
        "environment": {"SECRET": "hunter2", "MULTI": "a\nb"},
        "directory": "/work",
        "uid": 0,
        "gid": 0,
        "mounts": (
            Mount(source="/vol", target="/data", read_only=True),
            Mount(source="/file", target="/etc/hosts", directory=False),
        ),
    }
    return ContainerSpec(**(values | changes))


@pytest.mark.parametrize("name", ["crun", "apptainer"])
def test_secrets_are_in_no_argument(tmp_path: Path, name: str) -> None:
    secret = {"SECRET": "hunter2", "HOME": "/hunter2"}
    launch = engine_of(name).launch(spec(environment=secret), place(tmp_path))
    assert launch.arguments[0] == name
    assert not any("hunter2" in word for word in launch.arguments)
    assert "hunter2" not in repr(spec()) + repr(launch)


def test_an_oci_bundle_says_it_all(tmp_path: Path) -> None:
    launch = Crun().launch(spec(), place(tmp_path))
    config = json.loads((tmp_path / "bundle/config.json").read_text())
    process = config["process"]
    assert process["args"] == list(spec().arguments)
    assert process["env"] == ["SECRET=hunter2", "MULTI=a\nb"]
    assert process["cwd"] == "/work"
    assert process["oomScoreAdj"] == 500
    assert process["noNewPrivileges"] is False
    assert {item["type"] for item in config["linux"]["namespaces"]} == {"pid", "mount"}
    binds = {item["destination"]: item for item in config["mounts"]}
    assert "ro" in binds["/data"]["options"]
    assert "rw" in binds["/etc/hosts"]["options"]
    assert launch.arguments[-1] == "c-1"
    assert "--preserve-fds=1" in launch.arguments


def test_only_root_keeps_capabilities() -> None:
    own = oci_config(spec(uid=1000, privilege_escalation=False, read_only=True), rootfs="/r")
    assert own["process"]["capabilities"]["effective"] == []
    assert own["process"]["noNewPrivileges"] is True
    assert own["root"] == {"path": "/r", "readonly": True}
    assert oci_config(spec(), rootfs="/r")["process"]["capabilities"]["effective"]


def test_cruns_own_errors_are_told() -> None:
    log = '{"msg": "no such file", "level": "error"}\nnoise\n{"msg": "x", "level": "warning"}\n'
    assert Crun().error(log, code=1) == "no such file"
    assert Crun().error("", code=1) == ""


@pytest.mark.parametrize(
    ("output", "code", "error"),
    [
        (
            "FATAL:   stat /x: no such file or directory\n",
            255,
            "stat /x: no such file or directory",
        ),
        ("\x1b[31mFATAL:   too big\x1b[0m\n", 255, "too big"),
        ("FATAL:   of the program's own\n", 1, ""),
        ("started\nFATAL:   of the program's own\n", 255, ""),
        ("", 255, ""),
    ],
)
def test_apptainer_complains_in_place_of_the_container(output: str, code: int, error: str) -> None:
    assert Apptainer().error(output, code=code) == error


def test_names_that_break_the_script_of_apptainer_do_not_reach_it() -> None:
    names = ("A_1", "_", "a.b", "A B", "1", "UID", "GID", "Ä", "")
    assert [name for name in names if Apptainer().takes(name)] == ["A_1", "_"]
    assert all(Crun().takes(name) for name in names)


def test_apptainer_gets_mount_points_that_stay_in_the_root(tmp_path: Path) -> None:
    where = place(tmp_path)
    (tmp_path / "rootfs/data").symlink_to(tmp_path / "outside")
    engine_of("apptainer").launch(spec(), where)
    assert not (tmp_path / "outside").exists()
    assert (tmp_path / "rootfs/etc/hosts").is_file()
    assert (tmp_path / "rootfs/proc").is_dir()


def test_apptainers_environment_is_in_its_environment(tmp_path: Path) -> None:
    where = place(tmp_path)
    launch = engine_of("apptainer").launch(spec(), where)
    assert launch.environment["APPTAINERENV_MULTI"] == "a\nb"
    assert launch.environment["PATH"] == "/bin"


def test_apptainers_options(tmp_path: Path) -> None:
    where = place(tmp_path)
    words = arguments(spec(), where)
    assert words[-5:] == ["/rootfs", *spec().arguments]
    assert "--writable" in words
    assert '--mount="type=bind","source=/vol","destination=/data","ro"' in words
    assert not any(word.startswith("--security") for word in words)
    dropped = next(word for word in words if word.startswith("--drop-caps="))
    assert "CAP_SYS_ADMIN" in dropped
    assert "CAP_CHOWN" not in dropped
    other = arguments(
        spec(uid=5, gid=6, groups=(7,), read_only=True, privilege_escalation=False), where
    )
    assert "--security=uid:5,gid:6:7" in other
    assert "--writable" not in other
    assert "--no-privs" in other


def test_odd_paths_stay_one_mount(tmp_path: Path) -> None:
    mount = Mount(source='/a,b"c', target="/d e")
    words = arguments(spec(mounts=(mount,)), place(tmp_path))
    assert '--mount="type=bind","source=/a,b""c","destination=/d e"' in words


def test_a_pods_own_network_has_its_own_interfaces_in_sys(tmp_path: Path) -> None:
    config = oci_config(spec(), rootfs="/r", sysfs="/m/sys")
    (sys,) = (mount for mount in config["mounts"] if mount["destination"] == "/sys")
    assert sys["source"] == "/m/sys"
    where = place(tmp_path, sysfs="/m/sys")
    words = arguments(spec(), where)
    assert '--mount="type=bind","source=/m/sys","destination=/sys","ro"' in words
    words = arguments(spec(), replace(where, sysfs="/sys"))
    assert not any("destination=/sys" in word for word in words)


def test_files_in_dev_are_mounted_on_the_pods_own(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    where = place(tmp_path, devices="/dev")
    log = Mount(source="/m", target="/dev/termination-log", directory=False)
    launch = engine_of("apptainer").launch(spec(mounts=(log,)), where)
    assert (tmp_path / "dev/termination-log").is_file()
    assert not (tmp_path / "rootfs/dev/termination-log").exists()
    binds = [word for word in launch.arguments if word.startswith("--mount=")]
    assert ["/dev" in binds[0], "/dev/termination-log" in binds[1]] == [True, True]
    assert any(word.endswith(",dev,devpts") for word in launch.arguments)
