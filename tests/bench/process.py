"""What a process and its children take."""

import os
from contextlib import suppress
from pathlib import Path


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
