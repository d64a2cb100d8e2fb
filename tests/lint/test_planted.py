"""The checks of `make lint` catch what they should: one error of each kind is planted in a small
tree with the settings of this one and must be reported."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPONENTS = sorted(path.parent.name for path in ROOT.glob("*/src"))

PLANTED = {
    "a process started where none may be": (
        "lint-ruff",
        "webhook/src/slurmlet/webhook/planted.py",
        '"""Planted."""\n\nimport subprocess\n\nsubprocess.run(["true"], check=True)\n',
        "TID251",
    ),
    "an unused import": (
        "lint-ruff",
        "common/src/slurmlet/common/planted.py",
        '"""Planted."""\n\nimport os\n',
        "F401",
    ),
    "Python that is not formatted": (
        "lint-ruff",
        "common/src/slurmlet/common/planted.py",
        '"""Planted."""\n\nx = {  "a":1 }\n',
        "planted.py",
    ),
    "a component that imports another": (
        "lint-imports",
        "webhook/src/slurmlet/webhook/planted.py",
        "import slurmlet.scheduler\n",
        "slurmlet.webhook.planted -> slurmlet.scheduler",
    ),
    "contracts that import common": (
        "lint-imports",
        "contracts/src/slurmlet/contracts/planted.py",
        "import slurmlet.common.log\n",
        "slurmlet.contracts.planted -> slurmlet.common.log",
    ),
    "a heavy import in the supervisor": (
        "lint-imports",
        "supervisor/src/slurmlet/supervisor/planted.py",
        "import aiohttp\n",
        "slurmlet.supervisor.planted -> aiohttp",
    ),
    "a room that no layer lists": (
        "lint-imports",
        "planted/src/slurmlet/planted/__init__.py",
        "",
        "planted",
    ),
    "C that is not formatted": (
        "lint-c",
        "tests/lab/planted.c",
        "int main(void){return 0;}\n",
        "planted.c",
    ),
    "an unquoted variable in a shell script": (
        "lint-shell",
        "tests/tools/planted",
        "#!/bin/bash\nrm $1\n",
        "SC2086",
    ),
    "a module without its collection in a role": (
        "lint-ansible",
        "ansible/roles/common/tasks/planted.yml",
        "---\n- name: Planted\n  command: 'true'\n",
        "fqcn",
    ),
}


ALWAYS = ["Makefile", "pyproject.toml", ".clang-format", ".shellcheckrc"]
NEEDS = {
    "lint-imports": ["*/src/**/*.py"],
    "lint-ansible": [
        *("ansible/galaxy.yml", "ansible/.ansible-lint", "ansible/.yamllint", "ansible/meta/*"),
        *("ansible/tools/collection", "ansible/CHANGELOG.md", "ansible/README.md"),
    ],
}
"""What a target reads beside the planted file: as little as it takes, for it is copied."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with the settings of all checks and a git index of its own."""
    copy_to(tmp_path, ALWAYS)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def copy_to(tree: Path, patterns: list[str]) -> None:
    for source in (path for pattern in patterns for path in ROOT.glob(pattern)):
        target = tree / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def lint(tree: Path, target: str) -> subprocess.CompletedProcess[str]:
    subprocess.run(["git", "add", "-A"], cwd=tree, check=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", target, f"VENV={ROOT / '.venv'}"],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_error_is_caught(tree: Path, kind: str) -> None:
    target, path, text, reported = PLANTED[kind]
    copy_to(tree, NEEDS.get(target, []))
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    (tree / path).write_text(text)

    result = lint(tree, target)

    assert result.returncode != 0, f"{kind} went through {target}"
    assert reported in result.stdout + result.stderr


def test_a_type_error_in_every_root_is_caught(tree: Path) -> None:
    planted = {f"{name}/src/slurmlet/{name}/planted.py" for name in COMPONENTS}
    planted |= {"tests/unit/planted.py", "ansible/roles/common/files/planted.py"}
    for path in planted:
        (tree / path).parent.mkdir(parents=True)
        (tree / path).write_text('"""Planted."""\n\nx: int = ""\n')

    result = lint(tree, "lint-types")

    assert result.returncode != 0
    missed = {path for path in planted if f"{path}:3: error" not in result.stdout}
    assert not missed, result.stdout + result.stderr
