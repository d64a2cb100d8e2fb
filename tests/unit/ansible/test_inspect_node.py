"""What a node is refused for, before anything is changed on it."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from slurmlet.spank import subids


@pytest.fixture(scope="session")
def inspect(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("roles/common/files/inspect_node.py")


def expected(**changes: object) -> dict[str, object]:
    return {
        "python": "3.13",
        "machine": "x86_64",
        "service_user": "slurmlet",
        "users": ["alice"],
        "control": True,
        "compute": False,
        **changes,
    }


def test_wheels_for_another_python_are_refused_with_the_command_that_helps(
    inspect: ModuleType,
) -> None:
    (problem,) = inspect.interpreter_problems(expected(), (3, 12), "x86_64")
    assert "3.12" in problem
    assert "3.13" in problem
    assert "tools/wheelhouse --python 3.12" in problem


def test_wheels_for_another_machine_are_refused(inspect: ModuleType) -> None:
    (problem,) = inspect.interpreter_problems(expected(), (3, 13), "aarch64")
    assert "--machine aarch64" in problem


def test_a_fitting_interpreter_is_no_problem(inspect: ModuleType) -> None:
    assert inspect.interpreter_problems(expected(), (3, 13), "x86_64") == []


@pytest.mark.parametrize(
    ("uids", "word"),
    [
        ({"slurmlet": -1, "alice": 2001}, "'slurmlet'"),
        ({"slurmlet": 990, "alice": -1}, "'alice'"),
        ({"slurmlet": 990, "alice": 0}, "uid 0"),
        ({"slurmlet": 990, "alice": 999}, "uid 999"),
    ],
)
def test_users_must_exist_and_be_people(
    inspect: ModuleType, uids: dict[str, int], word: str
) -> None:
    (problem,) = inspect.user_problems(expected(), uids)
    assert word in problem


def test_good_users_are_no_problem(inspect: ModuleType) -> None:
    assert inspect.user_problems(expected(), {"slurmlet": 990, "alice": 2001}) == []


def test_the_service_user_is_needed_on_the_control_host_only(inspect: ModuleType) -> None:
    uids = {"slurmlet": -1, "alice": 2001}
    assert inspect.user_problems(expected(control=False), uids) == []


def test_every_engine_that_pods_may_choose_must_be_there(inspect: ModuleType) -> None:
    installed = {"apptainer", "skopeo", "umoci", "unshare"}

    def which(name: str) -> str | None:
        return f"/usr/bin/{name}" if name in installed else None

    assert inspect.engine_problems(["apptainer"], which) == []
    (problem,) = inspect.engine_problems(["crun", "apptainer"], which)
    assert "crun" in problem
    assert "supervisor.engines" in problem
    installed.remove("umoci")
    (problem,) = inspect.engine_problems(["apptainer"], which)
    assert "umoci" in problem


@pytest.mark.parametrize(
    ("line", "good"),
    [
        ("slurm 24.11.5", True),
        ("slurm-wlm 23.11.4", True),
        ("slurm 23.02.7", False),
        ("slurm-wlm 22.05.8", False),
        ("", False),
    ],
)
def test_slurm_must_be_new_enough(inspect: ModuleType, line: str, good: bool) -> None:
    assert (inspect.slurm_problems(line) == []) is good


def test_accounting_flags_are_reported(inspect: ModuleType) -> None:
    warnings = inspect.accounting_warnings
    assert warnings("A = b\nAccountingStoreFlags    = job_comment\n") == []
    (missing,) = warnings("AccountingStoreFlags    = (null)\n")
    assert "job_comment" in missing
    (leak,) = warnings("AccountingStoreFlags    = job_comment,job_env\n")
    assert "token" in leak
    (away,) = warnings("")
    assert "slurmctld" in away


CONFIG = """PrologFlags             = Alloc,Contain
JobContainerType        = (null)
SlurmdSpoolDir          = /var/lib/slurm/slurmd
"""


def test_a_slurm_conf_for_sandboxes_has_no_problem(inspect: ModuleType) -> None:
    assert inspect.sandbox_problems(CONFIG) == []
    assert inspect.setting(CONFIG, "SlurmdSpoolDir") == "/var/lib/slurm/slurmd"
    assert inspect.sandbox_problems("") == []


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (CONFIG.replace("Alloc,Contain", "(null)"), "PrologFlags in slurm.conf lacks Contain"),
        (CONFIG.replace("Alloc", "RunInJob"), "PrologFlags in slurm.conf has RunInJob"),
        (CONFIG.replace("(null)", "job_container/tmpfs"), "JobContainerType in slurm.conf is set"),
    ],
)
def test_what_keeps_prologs_from_making_sandboxes_is_told(
    inspect: ModuleType, config: str, problem: str
) -> None:
    assert [text.startswith(problem) for text in inspect.sandbox_problems(config)] == [True]


def test_the_digest_is_the_one_that_slurmlet_sandbox_compares(
    inspect: ModuleType, tmp_path: Path
) -> None:
    files = [tmp_path / "subuid", tmp_path / "subgid"]
    assert inspect.subid_digest(files) == subids.digest(files) == ""
    for file in files:
        file.write_text("alice:200000:65536\n")
    assert inspect.subid_digest(files) == subids.digest(files) != ""


@pytest.mark.parametrize(
    ("line", "release"),
    [("slurm-wlm 24.11.5\n", "24.11"), ("slurm 26.05.1", "26.05"), ("", ""), ("srun: x", "")],
)
def test_the_release_of_slurm_is_read(inspect: ModuleType, line: str, release: str) -> None:
    assert inspect.slurm_release(line) == release
