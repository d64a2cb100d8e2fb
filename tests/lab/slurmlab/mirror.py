"""The Debian mirror, as the host's own apt configuration names it."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from slurmlab.errors import LabError
from slurmlab.process import run

OVERRIDE = "SLURMLET_LAB_MIRROR"
_SUITES = ("stable", "testing", "unstable", "sid", "bookworm", "trixie", "forky")
_APT_OPTIONS = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")


def parse_one_line(text: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield (URI, suite, components) of each `deb` line of a sources.list."""
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if not words or words[0] != "deb":
            continue
        rest = words[1:]
        if rest and rest[0].startswith("["):
            while rest and not rest[0].endswith("]"):
                rest = rest[1:]
            rest = rest[1:]
        if len(rest) >= 3:
            yield rest[0], rest[1], tuple(rest[2:])


def parse_deb822(text: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield (URI, suite, components) of each binary stanza of a .sources file."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in "\n".join(lines).split("\n\n"):
        fields: dict[str, list[str]] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1].isspace():
                fields.setdefault(name, []).extend(line.split())
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.split()
        enabled = fields.get("enabled", ["yes"])[:1]
        if "deb" not in fields.get("types", []) or enabled == ["no"]:
            continue
        for uri in fields.get("uris", []):
            for suite in fields.get("suites", []):
                yield uri, suite, tuple(fields.get("components", []))


def choose(entries: Iterable[tuple[str, str, tuple[str, ...]]]) -> str | None:
    """Return the URI of the first entry that serves a whole Debian release, or None."""
    for uri, suite, components in entries:
        scheme = uri.partition(":")[0]
        if scheme in ("http", "https", "file") and suite in _SUITES and "main" in components:
            return uri.rstrip("/")
    return None


def debian_mirror(apt: Path = Path("/etc/apt")) -> str:
    """Return the mirror that debootstrap and apt shall use; raises LabError if none is found."""
    if given := os.environ.get(OVERRIDE):
        return given.rstrip("/")
    entries: list[tuple[str, str, tuple[str, ...]]] = []
    one_line = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    for path in one_line:
        if path.is_file():
            entries.extend(parse_one_line(path.read_text(errors="replace")))
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        entries.extend(parse_deb822(path.read_text(errors="replace")))
    uri = choose(entries)
    if uri is None:
        raise LabError(f"no Debian mirror in {apt}/sources.list*: set {OVERRIDE} to its URI")
    return uri


def apt_options() -> str:
    """Return the host's proxy and transport options as a file for apt.conf.d."""
    dumped = run(["apt-config", "dump"]).stdout.splitlines()
    kept = [line for line in dumped if line.startswith(_APT_OPTIONS)]
    return "\n".join([*kept, 'APT::Sandbox::User "root";', 'APT::Install-Recommends "no";', ""])
