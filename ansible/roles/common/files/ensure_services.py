"""Ensures that systemd units run, now and after a boot. Runs on the node.

usage: ensure_services.py UNITS check|write

UNITS is JSON: unit → the files that it reads only at its start. A unit that started before one of
them, or its unit file, changed is restarted, so nothing is lost when an earlier run was cut off
between a change and the restart. Prints one line per action; with `check` it takes none.
"""

import json
import os
import subprocess
import sys
import time

SECONDS = 150
"""Of one systemctl: longer than any TimeoutStartSec or TimeoutStopSec of our units."""
PROPERTIES = ("LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload", "FragmentPath")
STARTED = "ActiveEnterTimestampMonotonic"


def main() -> None:
    units, write = json.loads(sys.argv[1]), sys.argv[2] == "write"
    states = {unit: show(unit) for unit in units}
    if write and any(needs_reload(state) for state in states.values()):
        systemctl("daemon-reload")
        states = {unit: show(unit) for unit in units}
    for unit, reads in units.items():
        for action in actions(states[unit], changed=last_change(states[unit], reads)):
            print(f"{action} {unit}")
            if not write:
                continue
            if action == "restart" and unit.endswith(".socket"):
                # systemd refuses to restart a socket whose service runs.
                systemctl("stop", unit.removesuffix("socket") + "service")
            systemctl(action, unit)
            if action == "restart":
                states = {name: show(name) for name in units}


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
