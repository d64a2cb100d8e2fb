"""Builds what is made of C: `_core` for Python, `slurmlet-enter`, and Slurm's plugin.

    python spank/build.py core DIRECTORY
    python spank/build.py enter FILE
    python spank/build.py plugin FILE --include DIRECTORY    # that has slurm/spank.h

The plugin is built by cffi's compiler as `_core` is, but is no Python module: it must link nothing
of Python, export only what Slurm calls, and load at once. `gate.py` checks that after each build.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import gate

HERE = Path(__file__).resolve().parent
CORE = (
    "container",
    "environment",
    "hint",
    "join",
    "json",
    "ops",
    "option",
    "record",
    "sandbox",
    "srun",
)
ENTER = ("anchor", "capabilities", "identity", "init", "main", "proxy", "step")
PLUGIN = ("client", "find", "node", "options", "plugin", "task")
HARDENED = (
    *("-std=gnu11", "-O2", "-D_GNU_SOURCE", "-D_FORTIFY_SOURCE=2"),
    *("-fstack-protector-strong", "-fstack-clash-protection", "-fno-plt"),
    # No debug information: it has the name of the directory of this build, and equal sources shall
    # give equal files, or each roll-out would find something new.
    "-g0",
)
LINKED = ("-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack")
STRICT = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")
SECONDS = 300


def declarations(*headers: str) -> str:
    """Headers as cffi's parser wants them: without the preprocessor's lines."""
    text = "\n".join((HERE / "csrc" / name).read_text(encoding="utf-8") for name in headers)
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def sources(folder: str, names: Sequence[str]) -> list[str]:
    return [str(HERE / folder / f"{name}.c") for name in names]


def plugin_sources() -> list[str]:
    return [*sources("plugin", PLUGIN), *sources("csrc", CORE)]


def core(directory: Path, *, flags: Sequence[str] = ()) -> Path:
    """`_core.abi3.so` in a directory: the core and what slurmlet-sandbox does as root."""
    import cffi  # noqa: PLC0415 - not needed for slurmlet-enter

    ffi = cffi.FFI()
    ffi.cdef(declarations("core.h", "root.h") + "\nvoid free(void *);\n")
    ffi.set_source(
        "_core",
        '#include "root.h"\n#include <stdlib.h>\n',
        sources=sources("csrc", (*CORE, "root")),
        include_dirs=[str(HERE / "csrc")],
        extra_compile_args=[*HARDENED, *flags],
        extra_link_args=[*LINKED, *flags],
        py_limited_api=True,
    )
    with _workshop() as work:
        built = Path(ffi.compile(tmpdir=work))
        directory.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy2(built, directory / built.name))


def enter(file: Path, *, flags: Sequence[str] = ()) -> Path:
    """`slurmlet-enter`: static, so that it runs under any libc and in any root file system."""
    _run(
        *(_cc(), *HARDENED, *STRICT, "-static-pie", "-fPIE", *LINKED, *flags),
        *(*sources("csrc", CORE), *sources("enter", ENTER), "-s", "-o", file),
    )
    if wrong := gate.enter_problems(file):
        raise SystemExit(f"slurmlet-enter {'; '.join(wrong)}")
    return file


def plugin(file: Path, *, include: Path, flags: Sequence[str] = ()) -> Path:
    """`slurmlet_spank.so` for the Slurm whose headers are in `include`."""
    from cffi import VerificationError, ffiplatform  # noqa: PLC0415

    with gate.slurm_headers(include) as headers, _workshop() as work:
        first, *others = plugin_sources()
        extension = ffiplatform.get_extension(
            first,
            "slurmlet_spank",
            sources=others,
            extra_compile_args=[*HARDENED, *STRICT, "-isystem", str(headers), *flags],
            extra_link_args=[
                *(*LINKED, *flags),
                f"-Wl,--version-script={HERE / 'plugin' / 'exports.map'}",
            ],
        )
        try:
            built = ffiplatform.compile(work, extension)
        except VerificationError:
            raise SystemExit("the plugin does not compile: the compiler said why") from None
        file.parent.mkdir(parents=True, exist_ok=True)
        if wrong := gate.problems(Path(built), include=include):
            raise SystemExit(f"the plugin {'; '.join(wrong)}")
        # A new file and a rename: a process that has the old one mapped keeps it.
        aside = file.with_name(f".{file.name}.new")
        shutil.copy2(built, aside)
        aside.chmod(0o644)
        aside.replace(file)
    return file


@contextlib.contextmanager
def _workshop() -> Iterator[str]:
    """A directory to compile in. setuptools takes what lies in the current one for its business,
    and the Python that builds puts its own RUNPATH into all it links."""
    before = os.environ.get("LDSHARED")
    os.environ["LDSHARED"] = f"{_cc()} -shared"
    try:
        with tempfile.TemporaryDirectory() as work, contextlib.chdir(work):
            yield work
    finally:
        del os.environ["LDSHARED"]
        if before is not None:
            os.environ["LDSHARED"] = before


def _cc() -> str:
    return os.environ.get("CC") or "cc"


def _run(*words: str | Path) -> None:
    command = [str(word) for word in words]
    try:
        done = subprocess.run(command, timeout=SECONDS, check=False)
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is missing: install a C compiler") from None
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed on {command[-1]}")


def platform_tag() -> str:
    """The wheel's platform: linux_x86_64 and the like."""
    return re.sub(r"[-.]", "_", sysconfig.get_platform())


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="build.py", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("core", "enter", "plugin"))
    parser.add_argument("target", type=Path)
    parser.add_argument("--include", type=Path, default=Path("/usr/include"))
    args = parser.parse_args(argv)
    target = args.target.resolve()
    if args.what == "core":
        print(core(target))
    elif args.what == "enter":
        print(enter(target))
    else:
        print(plugin(target, include=args.include))
    return 0


if __name__ == "__main__":
    sys.exit(main())
