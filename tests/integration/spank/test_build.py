"""The C sources under the compiler's analyser, and the parsers under fuzz and sanitizers."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SPANK = Path(__file__).parents[3] / "spank"
STRICT = ("-std=gnu11", "-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wshadow", "-Wconversion")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")


def compiled(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["cc", *map(str, words)], capture_output=True, text=True, timeout=300, check=False
    )


def test_the_analyser_finds_nothing() -> None:
    sources = sorted([*SPANK.glob("csrc/*.c"), *SPANK.glob("enter/*.c")])
    assert len(sources) > 10

    def analysed(source: Path) -> str:
        return compiled(*STRICT, "-Werror", "-fanalyzer", "-c", source, "-o", "/dev/null").stderr

    with ThreadPoolExecutor(2) as pool:
        assert [said for said in pool.map(analysed, sources) if said] == []


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
