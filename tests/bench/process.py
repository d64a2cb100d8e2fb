"""What a process and its children take, and how it is stopped."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

STOP_SECONDS = 30
"""For a process to end once it is asked to, on a busy machine."""


def family(process: int) -> list[int]:
    """A process and its children: gunicorn and its worker."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *map(int, children)]


def processor(process: int) -> float:
    """Seconds of a processor that a process and its children have taken."""
    ticks = os.sysconf("SC_CLK_TCK")
    fields = [
        Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        for each in family(process)
    ]
    return sum(int(each[11]) + int(each[12]) for each in fields) / ticks


def memory(process: int) -> tuple[float, float]:
    """MiB of a process and its children: shared pages counted once (PSS), and RSS of the worker."""
    shares, largest = 0.0, 0.0
    for each in family(process):
        with suppress(OSError):
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
            sizes = {line.split()[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
            shares += sizes["Pss:"] / 1024
            largest = max(largest, sizes["Rss:"] / 1024)
    return shares, largest


def peak(process: int) -> float:
    """MiB of RSS that a process had at most."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {process} has ended")


def stop(process: "subprocess.Popen[Any]") -> None:
    """Ends a process: by force, if it does not heed."""
    process.terminate()
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
