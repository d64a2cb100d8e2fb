"""Ensures that systemd units are as given and run, now and after a boot. Runs on the node.

usage: ensure_services.py UNITS check|write

UNITS is JSON: unit → {"text": the unit file, or null if something else writes it; "reads": the
files that it reads only at its start}. A unit that started before one of them, or its unit file,
changed is restarted, so nothing is lost when an earlier run was cut off between a change and the
restart. Prints what was done and how unit files differed; with `check` nothing is done.
"""

import difflib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

DIRECTORY = Path("/etc/systemd/system")
SECONDS = 150
"""Of one systemctl: longer than any TimeoutStartSec or TimeoutStopSec of our units."""
PROPERTIES = ("LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload", "FragmentPath")
STARTED = "ActiveEnterTimestampMonotonic"


def main() -> None:
    units, write = json.loads(sys.argv[1]), sys.argv[2] == "write"
    for unit, wanted in units.items():
        if wanted["text"] is not None:
            put(DIRECTORY / unit, wanted["text"], write=write)
    states = {unit: show(unit) for unit in units}
    if write and any(needs_reload(state) for state in states.values()):
        systemctl("daemon-reload")
    for unit, wanted in units.items():
        # Anew each time: a service starts with its socket, and stops with it.
        state = show(unit)
        for action in actions(state, changed=last_change(state, wanted["reads"])):
            print(f"{action} {unit}")
            if not write:
                continue
            if action == "restart" and unit.endswith(".socket"):
                # systemd refuses to restart a socket whose service runs.
                systemctl("stop", unit.removesuffix("socket") + "service")
            systemctl(action, unit)


def put(path: Path, text: str, *, write: bool) -> None:
    """Writes a file if it differs, by rename, and prints the difference."""
    current = path.read_text(encoding="utf-8") if path.exists() else ""
    if current == text:
        return
    lines = current.splitlines(), text.splitlines()
    print(*difflib.unified_diff(*lines, str(path), str(path), lineterm=""), sep="\n")
    if write:
        partial = path.with_name(f".{path.name}.new")
        partial.write_text(text, encoding="utf-8")
        partial.chmod(0o644)
        partial.replace(path)


def actions(state: dict[str, str], *, changed: float) -> list[str]:
    """What a unit needs; `changed` is the time (monotonic, seconds) of the last change."""
    if state["LoadState"] != "loaded":
        return ["enable", "start"]
    found = [] if state["UnitFileState"] == "enabled" else ["enable"]
    if state["ActiveState"] not in ("active", "reloading"):
        found.append("start")
    elif changed > int(state[STARTED]) / 1e6:
        found.append("restart")
    return found


def needs_reload(state: dict[str, str]) -> bool:
    return state["LoadState"] != "loaded" or state["NeedDaemonReload"] == "yes"


def last_change(state: dict[str, str], reads: list[str]) -> float:
    """When the newest of a unit's files changed, on the clock of systemd's timestamps."""
    newest = 0.0
    for path in [state["FragmentPath"], *reads]:
        try:
            # A link counts by when it was made: /opt/slurmlet/current is one.
            newest = max(newest, os.lstat(path).st_mtime)
        except FileNotFoundError:
            continue
    return newest - (time.time() - time.monotonic())


def show(unit: str) -> dict[str, str]:
    text = systemctl("show", f"--property={','.join([*PROPERTIES, STARTED])}", unit)
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def systemctl(*words: str) -> str:
    done = subprocess.run(
        ["systemctl", *words], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode != 0:
        sys.exit(f"systemctl {' '.join(words)} failed: {done.stderr.strip()}\n{journal(words[-1])}")
    return done.stdout


def journal(unit: str) -> str:
    argv = ["journalctl", "--no-pager", "--lines=10", "--output=cat", f"--unit={unit}"]
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=SECONDS, check=False
    ).stdout.strip()


if __name__ == "__main__":
    main()
