"""What follows from a lab's name, its mounts and its inventory."""

from pathlib import Path

import pytest

from slurmlab import cli, host, mounts, site
from slurmlab.errors import LabError
from slurmlab.host import TOOLS
from slurmlab.names import LAB_SOURCE, NODES, Lab, node_named


@pytest.mark.parametrize("name", ["", "A", "a/b", "..", "-x", "a" * 17, "a b", "a\n"])
def test_a_name_that_could_leave_its_directory_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="lab name"):
        Lab(name=name)


def test_labs_share_no_path() -> None:
    one, two = Lab(name="one"), Lab(name="two")
    for node in NODES:
        assert one.root(node).is_relative_to(one.run_dir)
        assert one.netns(node) != two.netns(node)
        assert one.cgroup("memory", node.name) != two.cgroup("memory", node.name)


def test_an_unknown_node_is_named_with_those_that_exist() -> None:
    with pytest.raises(LabError, match=r"'c9'.*ctl, c1, c2"):
        node_named("c9")


def test_mounts_below_a_directory_come_last_first() -> None:
    text = (
        "20 1 0:20 / /run/lab/one rw - tmpfs tmpfs rw\n"
        "21 1 0:21 / /run/lab/one/a\\040b rw - overlay overlay rw\n"
        "22 1 0:22 / /run/lab/one2 rw - tmpfs tmpfs rw\n"
        "23 1 0:23 / /run/lab rw - tmpfs tmpfs rw\n"
    )
    assert mounts.below(Path("/run/lab/one"), text) == [
        Path("/run/lab/one/a b"),
        Path("/run/lab/one"),
    ]


def test_the_inventory_has_the_groups_of_the_collection() -> None:
    whole = site.inventory(Lab(name="one"))
    top = whole["all"]
    assert isinstance(top, dict)
    members = {name: sorted(group["hosts"]) for name, group in top["children"].items()}
    assert members == {
        "slurmlet_control": ["ctl"],
        "slurmlet_compute": ["c1", "c2"],
        "slurmlet_login": ["ctl"],
    }
    assert top["hosts"]["c2"]["ansible_host"] == "10.77.0.12"
    assert top["vars"]["slurmlet_namespaces"]["bob"]["user"] == "bob"


def test_every_tool_comes_from_a_listed_package() -> None:
    listed = (LAB_SOURCE / "host-packages.txt").read_text().splitlines()
    assert set(TOOLS.values()) <= set(listed)


def test_a_missing_tool_is_one_line_with_its_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert cli.main(["status", "--name", "one"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "apt-get install" in said
    assert "debootstrap" in said


def test_without_root_the_lab_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert cli.main(["down", "--name", "one"]) == 1
    assert capsys.readouterr().err == "lab: a lab boots nodes: run ./lab as root\n"


def test_words_after_the_dashes_belong_to_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[str, list[str], str]] = []

    def enter(lab: Lab, node: str, argv: list[str], *, user: str) -> None:
        seen.append((f"{lab.name}/{node}", argv, user))

    monkeypatch.setattr(cli, "_enter", enter)
    words = ["exec", "c1", "--user", "bob", "--name", "one", "--", "srun", "--user", "x", "--", "y"]
    assert cli.main(words) == 0
    assert seen == [("one/c1", ["srun", "--user", "x", "--", "y"], "bob")]
    assert cli.main(["--name", "one", "exec", "c1"]) == 1


def test_too_few_inotify_instances_are_said_before_a_boot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host, "INOTIFY_INSTANCES", 10**9)
    with pytest.raises(LabError, match=r"of \d+ are in use .*fs.inotify.max_user_instances"):
        host.check_room()
