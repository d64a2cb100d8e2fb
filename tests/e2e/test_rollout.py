"""The collection's promises: a second run changes nothing, and a check may be asked at any time."""

import os
import re
import secrets
from collections.abc import Iterator

import pytest
from tests.e2e import playbooks
from tests.e2e.conftest import Lab, lab_command
from tests.e2e.playbooks import play

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab boots nodes: run as root"),
]
UP_SECONDS = 600


def changed(output: str) -> dict[str, int]:
    """Host → number of changes, from the recap."""
    found = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s", output, re.MULTILINE)
    return {host: int(count) for host, count in found}


@pytest.fixture(scope="module")
def clean() -> Iterator[Lab]:
    """A lab of this module with Slurm and without slurmlet, until `rolled_out` is asked for."""
    name = f"t{secrets.token_hex(3)}"
    up = lab_command("up", "--no-rollout", "--name", name, timeout=UP_SECONDS)
    try:
        assert up.returncode == 0, up.stdout[-4000:]
        yield Lab(name=name)
    finally:
        lab_command("down", "--name", name, timeout=120)


@pytest.fixture(scope="module")
def rolled_out(clean: Lab) -> Lab:
    play(clean.name, "site")
    return clean


@pytest.mark.claim("F12")
@pytest.mark.timeout(playbooks.SECONDS)
def test_a_check_works_on_a_clean_cluster_and_leaves_it_clean(clean: Lab) -> None:
    output = play(clean.name, "site", "--check", "--diff")
    assert all(count > 0 for count in changed(output).values())
    left = clean.run("ctl", ["ls", "/opt", "/etc/systemd/system"]).stdout
    assert "slurmlet" not in left


@pytest.mark.timeout(playbooks.SECONDS)
def test_a_node_that_lacks_something_stops_the_run_before_anything_changes(clean: Lab) -> None:
    clean.run("c2", ["mv", "/usr/bin/umoci", "/usr/bin/umoci.away"])
    try:
        with pytest.raises(AssertionError, match="umoci is not in PATH"):
            play(clean.name, "site")
    finally:
        clean.run("c2", ["mv", "/usr/bin/umoci.away", "/usr/bin/umoci"])
    assert "slurmlet" not in clean.run("ctl", ["ls", "/opt"]).stdout


@pytest.mark.claim("F12")
@pytest.mark.timeout(playbooks.SECONDS)
def test_a_second_run_changes_nothing(rolled_out: Lab) -> None:
    output = play(rolled_out.name, "site")
    assert changed(output) == {"ctl": 0, "c1": 0, "c2": 0}, output[-6000:]


@pytest.mark.claim("F12")
@pytest.mark.timeout(playbooks.SECONDS)
def test_a_check_of_a_rolled_out_cluster_finds_nothing_to_do(rolled_out: Lab) -> None:
    output = play(rolled_out.name, "site", "--check", "--diff")
    assert changed(output) == {"ctl": 0, "c1": 0, "c2": 0}, output[-6000:]


@pytest.mark.timeout(playbooks.SECONDS)
def test_a_check_tells_a_change_and_makes_none(rolled_out: Lab) -> None:
    lab = rolled_out
    before = lab.run("ctl", ["cat", "/etc/slurmlet/identity.toml"]).stdout
    asked = ["--check", "--diff", "--extra-vars", '{"slurmlet_namespaces": {"x": {"user": "bob"}}}']
    output = play(lab.name, "site", *asked)
    assert changed(output)["ctl"] > 0
    assert '+[namespaces."x"]' in output
    assert "PRIVATE KEY" not in output
    assert lab.run("ctl", ["cat", "/etc/slurmlet/identity.toml"]).stdout == before
    assert lab.kubectl("root", "get", "namespace", "x", check=False).returncode != 0


@pytest.mark.timeout(playbooks.SECONDS)
def test_verify_agrees_and_changes_nothing(rolled_out: Lab) -> None:
    assert changed(play(rolled_out.name, "verify")) == {"ctl": 0, "c1": 0, "c2": 0}


@pytest.mark.timeout(playbooks.SECONDS)
def test_a_stopped_service_is_started_again_and_no_other_restarted(rolled_out: Lab) -> None:
    lab = rolled_out

    def starts() -> dict[str, str]:
        shown = lab.run("ctl", ["systemctl", "show", "--property=Id,InvocationID", "slurmlet-*"])
        blocks = [block.splitlines() for block in shown.stdout.split("\n\n")]
        pairs = (dict(line.split("=", 1) for line in block if line) for block in blocks)
        return {pair["Id"]: pair["InvocationID"] for pair in pairs}

    before = starts()
    lab.run("ctl", ["systemctl", "stop", "slurmlet-scheduler.service"])
    output = play(lab.name, "site")
    assert changed(output) == {"ctl": 1, "c1": 0, "c2": 0}, output[-6000:]
    after = starts()
    restarted = {unit for unit in before if after.get(unit) != before[unit]}
    assert restarted == {"slurmlet-scheduler.service"}
