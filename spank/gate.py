"""Refuses a plugin that Slurm should not load: python spank/gate.py FILE --include DIRECTORY.

It runs after each build. What Slurm loads as root must export what Slurm calls and no more,
need nothing but libc, have no search path of its own, and resolve every symbol at once.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXPORTED = re.compile(r"(plugin_(name|type|version)|spank_plugin_version|slurm_spank_\w+)")
NEEDED = {"libc.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
SECONDS = 120


def problems(plugin: Path, *, include: Path) -> list[str]:
    """Everything that is wrong with a plugin."""
    exported = re.findall(r"^\S+ \w (\S+)$", _out("nm", "-D", "--defined-only", plugin), re.M)
    wanted = re.findall(r"^\s+[Uw] (\S+)$", _out("nm", "-D", "--undefined-only", plugin), re.M)
    dynamic = _out("readelf", "-dW", plugin)
    found = [f"exports {name}" for name in exported if not EXPORTED.fullmatch(name)]
    found += [f"needs Python's {name}" for name in wanted if name.lstrip("_").startswith("Py")]
    found += [
        f"links {name}"
        for name in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)
        if name not in NEEDED
    ]
    if "RUNPATH" in dynamic or "RPATH" in dynamic:
        found.append("has a search path")
    if "BIND_NOW" not in dynamic and "NOW" not in dynamic:
        found.append("is not linked with -z now")
    if "GNU_RELRO" not in _out("readelf", "-lW", plugin):
        found.append("is not linked with -z relro")
    if not any(name.startswith("__stack_chk_fail") for name in wanted):
        found.append("has no stack protector")
    if not any(name.partition("@")[0].endswith("_chk") for name in wanted):
        found.append("is not fortified")
    return found or _load(plugin, include=include)


@contextlib.contextmanager
def slurm_headers(include: Path) -> Iterator[Path]:
    """A directory that has slurm/ of `include` and nothing else.

    `include` may be in the root file system of another release of the operating system, whose C
    library's headers must not come before this one's.

    Raises:
        SystemExit: there is no slurm/spank.h in it.
    """
    if not (include / "slurm" / "spank.h").exists():
        raise SystemExit(f"{include}/slurm/spank.h is missing: install Slurm's development package")
    with tempfile.TemporaryDirectory() as only:
        (Path(only) / "slurm").symlink_to((include / "slurm").resolve())
        yield Path(only)


def host(file: Path, *, include: Path, flags: Sequence[str] = ()) -> Path:
    """Builds the stand-in for Slurm's programs."""
    with slurm_headers(include) as headers:
        _out(
            *(os.environ.get("CC") or "cc", "-std=gnu11", "-D_GNU_SOURCE", "-rdynamic", "-O1"),
            *(*flags, "-isystem", headers, HERE / "host" / "host.c", "-o", file, "-ldl"),
        )
    return file


def _load(plugin: Path, *, include: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as work:
        program = host(Path(work) / "host", include=include)
        done = subprocess.run(
            [program],
            env={"HOST_PROGRAM": "load", "HOST_PLUGIN": str(plugin)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    return [] if done.returncode == 0 else [f"does not load: {done.stdout.strip()}"]


def _out(*words: str | Path) -> str:
    command = [str(word) for word in words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode != 0:
        raise SystemExit(f"gate: {command[0]} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gate.py", description=__doc__.splitlines()[0])
    parser.add_argument("plugin", type=Path)
    parser.add_argument("--include", type=Path, default=Path("/usr/include"))
    args = parser.parse_args(argv)
    found = problems(args.plugin, include=args.include)
    for problem in found:
        print(f"gate: {args.plugin.name} {problem}", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
