"""Whatever Slurm should not load, the gate refuses."""

import subprocess
from pathlib import Path

import pytest

from .conftest import SECONDS, headers, tool

# What the real flags give; each case takes one away or adds one thing.
GOOD = (
    *("-O2", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong", "-fPIC", "-shared"),
    *("-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack"),
)
SOURCE = """
#include <slurm/slurm_version.h>
#include <slurm/spank.h>
#include <string.h>
const char plugin_name[] = "x", plugin_type[] = "%(type)s";
const unsigned int plugin_version = SLURM_VERSION_NUMBER + %(later)s;
%(extra)s
int slurm_spank_init(spank_t spank, int argc, char **argv)
{
    char text[64];

    (void)spank;
    strcpy(text, argv[argc]);
    return text[0] == 'x';
}
"""
PLAIN = {"type": "spank", "later": "0", "extra": ""}


def made(tmp_path: Path, include: Path, *flags: str, **source: str) -> Path:
    code, plugin = tmp_path / "made.c", tmp_path / "made.so"
    code.write_text(SOURCE % (PLAIN | source))
    with tool("gate").slurm_headers(include) as only:
        subprocess.run(
            ["cc", *GOOD, "-isystem", str(only), str(code), *flags, "-o", str(plugin)],
            check=True,
            timeout=SECONDS,
        )
    return plugin


def test_a_good_one_passes(tmp_path: Path, include: Path) -> None:
    assert tool("gate").problems(made(tmp_path, include), include=include) == []


@pytest.mark.parametrize(
    ("flags", "source", "problem"),
    [
        ((), {"extra": "int helper;"}, "exports helper"),
        ((), {"extra": "int init(void) { return 0; }"}, "exports init"),
        ((), {"extra": "int Py_x(void); int slurm_spank_other(void) { return Py_x(); }"},
         "needs Python's Py_x"),
        (("-Wl,--no-as-needed", "-l:libgcc_s.so.1"), {}, "links libgcc_s.so.1"),
        (("-Wl,-rpath,/x",), {}, "has a search path"),
        (("-Wl,-z,lazy",), {}, "is not linked with -z now"),
        (("-Wl,-z,norelro",), {}, "is not linked with -z relro"),
        (("-Wl,-z,execstack",), {}, "has an executable stack"),
        (("-fno-stack-protector",), {}, "has no stack protector"),
        (("-U_FORTIFY_SOURCE",), {}, "is not fortified"),
        ((), {"type": "auth"}, "does not load: error not a plugin"),
        ((), {"later": "0x100"}, "does not load: error the plugin is for Slurm"),
        ((), {"extra": "int nowhere(void); int slurm_spank_other(void) { return nowhere(); }"},
         "undefined symbol: nowhere"),
    ],
)  # fmt: skip
def test_a_bad_one_is_refused(
    tmp_path: Path, include: Path, flags: tuple[str, ...], source: dict[str, str], problem: str
) -> None:
    found = tool("gate").problems(made(tmp_path, include, *flags, **source), include=include)
    assert any(problem in each for each in found), found


def test_one_that_brings_python_is_refused(tmp_path: Path, include: Path) -> None:
    """By no symbol and no entry of its own: it is loaded when the plugin is."""
    loads = "#include <dlfcn.h>\n__attribute__((constructor)) static void load(void) {"
    loads += ' (void)dlopen("libm.so.6", RTLD_NOW); }'
    plugin = made(tmp_path, include, extra=loads)
    assert tool("gate").problems(plugin, include=include) == ["brings libm.so.6 with it"]


def test_the_plugin_of_one_release_is_refused_for_another(tmp_path: Path) -> None:
    first, second = headers("trixie"), headers("sid")
    if first is None or second is None:
        pytest.skip("headers of two releases are wanted: run make provision")
    plugin = tool("build").plugin(tmp_path / "slurmlet_spank.so", include=first)
    assert tool("gate").problems(plugin, include=second) == [
        "does not load: error the plugin is for Slurm 24.11"
    ]


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ((), "links libc.so.6"),
        ((), "needs a dynamic loader"),
        (("-static",), "is not a position-independent executable"),
        (("-static-pie", "-fPIE", "-Wl,-z,execstack"), "has an executable stack"),
        (("-static-pie", "-fPIE", "-Wl,-z,now", "-Wl,-z,relro"), "does not run: 3"),
    ],
)
def test_an_enter_that_needs_something_is_refused(
    tmp_path: Path, flags: tuple[str, ...], problem: str
) -> None:
    (tmp_path / "x.c").write_text("int main(void) { return 3; }")
    program = tmp_path / "slurmlet-enter"
    subprocess.run(
        ["cc", *flags, str(tmp_path / "x.c"), "-o", str(program)], check=True, timeout=SECONDS
    )
    assert problem in tool("gate").enter_problems(program)


def test_ours_passes(tmp_path: Path) -> None:
    program = tool("build").enter(tmp_path / "slurmlet-enter")
    assert tool("gate").enter_problems(program) == []
