"""Refuses a plugin that Slurm should not load: python spank/gate.py FILE --include DIRECTORY.

It runs after each build. What Slurm loads as root must export what Slurm calls and no more, need
nothing but libc (Python least of all), have no search path of its own, resolve every symbol at once
and be for the release that loads it. slurmlet-enter must need nothing at all.
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
EXPORTED = re.compile(r"(plugin_(name|type|version)|slurm_spank_\w+)")
LIBC = re.compile(r"libc\.so\.6|ld-linux-(x86-64\.so\.2|aarch64\.so\.1)")
KERNEL = re.compile(r"linux-(vdso|gate)\.so\.1")
SECONDS = 120


def problems(plugin: Path, *, include: Path) -> list[str]:
    """Everything that is wrong with a plugin for the Slurm whose headers are in `include`."""
    exported = re.findall(r"^\S+ \w (\S+)$", _out("nm", "-D", "--defined-only", plugin), re.M)
    wanted = re.findall(r"^\s+[Uw] (\S+)$", _out("nm", "-D", "--undefined-only", plugin), re.M)
    found = [f"exports {name}" for name in exported if not EXPORTED.fullmatch(name)]
    found += [f"needs Python's {name}" for name in wanted if name.lstrip("_").startswith("Py")]
    found += [f"links {name}" for name in _linked(plugin) if not LIBC.fullmatch(name)]
    found += _hardening_problems(plugin)
    if not any(name.startswith("__stack_chk_fail") for name in wanted):
        found.append("has no stack protector")
    if not any(name.partition("@")[0].endswith("_chk") for name in wanted):
        found.append("is not fortified")
    return found or _load(plugin, include=include)


def enter_problems(program: Path) -> list[str]:
    """Everything that is wrong with slurmlet-enter, which must run in any root file system."""
    segments = _out("readelf", "-lW", program)
    found = [f"links {name}" for name in _linked(program)]
    if "INTERP" in segments:
        found.append("needs a dynamic loader")
    if not re.search(r"\(FLAGS_1\).*\bPIE\b", _out("readelf", "-dW", program)):
        found.append("is not a position-independent executable")
    found += _hardening_problems(program)
    if found:
        return found
    done = subprocess.run(
        [program], env={}, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    return [] if "usage: slurmlet-enter" in done.stderr else [f"does not run: {done.returncode}"]


def _linked(file: Path) -> list[str]:
    return re.findall(r"\(NEEDED\).*\[(.*)\]", _out("readelf", "-dW", file))


def _hardening_problems(file: Path) -> list[str]:
    dynamic, segments = _out("readelf", "-dW", file), _out("readelf", "-lW", file)
    found = []
    if re.search(r"\((RUNPATH|RPATH)\)", dynamic):
        found.append("has a search path")
    if "BIND_NOW" not in dynamic and not re.search(r"\(FLAGS_1\).*\bNOW\b", dynamic):
        found.append("is not linked with -z now")
    if "TEXTREL" in dynamic:
        found.append("has relocations in its code")
    if "GNU_RELRO" not in segments:
        found.append("is not linked with -z relro")
    if not re.search(r"GNU_STACK(\s+0x\w+){5}\s+RW\s", segments):
        found.append("has an executable stack")
    return found


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
    if done.returncode != 0:
        return [f"does not load: {done.stdout.strip()}"]
    objects = [Path(line[7:]) for line in done.stdout.splitlines() if line.startswith("object ")]
    return [
        f"brings {name} with it"
        for name in (path.name for path in objects if path != plugin)
        if not LIBC.fullmatch(name) and not KERNEL.fullmatch(name)
    ]


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
