"""`make bench-join`: the figures of docs/figures.md, in one run on the lab."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence

from tests.bench import bed, joins, network, plain, sandbox
from tests.bench.figures import Figure, table

PARTS: dict[str, Callable[[bed.Bed], list[Figure]]] = {
    "plain": plain.figures,
    "node": joins.on_the_node,
    "srun": joins.in_srun,
    "row": joins.in_a_row,
    "sandbox": sandbox.figures,
    "network": network.figures,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; 1 if joins left something behind."""
    parser = argparse.ArgumentParser(prog="bench-join", description=__doc__)
    parser.add_argument("--lab", default=os.environ.get("LAB") or "slurmlet", help="its name")
    parser.add_argument("--joins", type=int, default=1000, help="in a row (1000)")
    parser.add_argument("--rounds", type=int, default=100, help="of everything else (100)")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; repeatable")
    given = parser.parse_args(argv)
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begin:5.0f} s] {text}", file=sys.stderr, flush=True)

    conditions = bed.conditions()
    figures: list[Figure] = []
    with bed.furnished(given.lab, rounds=given.rounds, joins=given.joins, say=say) as furnished:
        for name in given.part or PARTS:
            say(name)
            figures += PARTS[name](furnished)
    say("done")
    print(f"{conditions}; {given.rounds} rounds\n\n{table(figures)}")
    leaks = [figure for figure in figures if figure.met is False and figure.aim == "nothing"]
    return 1 if leaks else 0


if __name__ == "__main__":
    sys.exit(main())
