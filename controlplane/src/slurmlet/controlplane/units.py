"""Keeps a directory of systemd units true to a config."""

import difflib
from pathlib import Path

from slurmlet.controlplane import layout
from slurmlet.controlplane.config import Config
from slurmlet.controlplane.errors import ControlPlaneError


def ensure(config: Config, dest: Path, *, dry: bool = False) -> list[str]:
    """Writes the units that differ; one line per change: its path, or with `dry` its diff."""
    if not dest.is_dir() and not dry:
        raise ControlPlaneError(f"{dest} is not a directory: create it, or choose another --dest")
    lines: list[str] = []
    for name, text in layout.units(config).items():
        path = dest / name
        try:
            current = path.read_text()
        except FileNotFoundError:
            current = ""
        except OSError as error:
            raise ControlPlaneError(f"{path} cannot be read: {error.strerror}") from None
        if current == text:
            continue
        if dry:
            lines += _diff(path, current, text)
        else:
            _replace(path, text)
            lines.append(str(path))
    return lines


def _diff(path: Path, current: str, text: str) -> list[str]:
    before, after = current.splitlines(), text.splitlines()
    name = str(path)
    return list(difflib.unified_diff(before, after, name, name, lineterm=""))


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.new")
    try:
        partial.write_text(text)
        partial.chmod(0o644)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ControlPlaneError(f"{path} cannot be written: {error.strerror}") from None
