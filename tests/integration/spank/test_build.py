"""The C sources under the compiler's analyser, and everything that can run under sanitizers."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .conftest import ROOT, SANITIZED, SECONDS, SPANK, tool

STRICT = ("-std=gnu11", "-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wshadow", "-Wconversion")

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")


def compiled(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["cc", *map(str, words)], capture_output=True, text=True, timeout=SECONDS, check=False
    )


def analysed(sources: list[Path], *flags: str | Path) -> list[str]:
    """What the compiler's analyser says about these files."""

    def one(source: Path) -> str:
        words = (*STRICT, "-Werror", "-fanalyzer", *flags, "-c", source, "-o", "/dev/null")
        return compiled(*words).stderr

    with ThreadPoolExecutor(2) as pool:
        return [said for said in pool.map(one, sources) if said]


def test_the_analyser_finds_nothing() -> None:
    sources = sorted([*SPANK.glob("csrc/*.c"), *SPANK.glob("enter/*.c")])
    assert len(sources) > 10
    assert analysed(sources) == []


def test_the_analyser_finds_nothing_in_the_plugin_of_either_release(include: Path) -> None:
    sources = sorted(SPANK.glob("plugin/*.c"))
    assert len(sources) > 4
    with tool("gate").slurm_headers(include) as only:
        assert analysed(sources, "-isystem", only) == []


def test_no_input_breaks_a_parser(tmp_path: Path) -> None:
    program = tmp_path / "fuzz"
    sources = sorted(SPANK.glob("csrc/*.c"))
    built = compiled(
        *STRICT, *SANITIZED, "-DSTANDALONE", SPANK / "fuzz/parsers.c", *sources, "-o", program
    )
    assert built.returncode == 0, built.stderr
    done = subprocess.run(
        [program, "20000"], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout) == (0, "20000 rounds\n"), done.stderr[-3000:]


def test_the_unit_tests_pass_with_a_sanitized_core(tmp_path: Path) -> None:
    core = tool("build").core(tmp_path, flags=SANITIZED)
    runtime = compiled("-print-file-name=libasan.so").stdout.strip()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/unit/spank", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={
            **os.environ,
            "SLURMLET_TEST_CORE": str(core),
            "LD_PRELOAD": runtime,
            # Python itself frees little before it ends.
            "ASAN_OPTIONS": "detect_leaks=0",
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"core: {core}" in done.stdout
