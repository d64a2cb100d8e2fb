"""Runs on a node, alone: times commands that take turns, so that all see the same drift.

    python3 -c SOURCE SPECIFICATION

SPECIFICATION is JSON: `rounds`, `warmup` (rounds before, which do not count), `rotate` (each round
begins with another command) and `commands`, a list of `name`, `argv`, and perhaps `environment`
(added to ours) and `input`. `{n}` in a word of argv becomes the number of the round. Prints JSON:
name → milliseconds from start to end, one per round. A command that fails ends everything.
"""

import json
import os
import sys
import tempfile
import time
from typing import Any


def measure(command: dict[str, Any], *, number: int, output: int) -> float:
    """Seconds that a command takes; what it prints goes to the file `output`."""
    argv = [word.replace("{n}", str(number)) for word in command["argv"]]
    given = os.memfd_create("input")
    os.write(given, command.get("input", "").encode())
    os.lseek(given, 0, os.SEEK_SET)
    os.ftruncate(output, 0)
    actions = [(os.POSIX_SPAWN_DUP2, given, 0)]
    actions += [(os.POSIX_SPAWN_DUP2, output, fd) for fd in (1, 2)]
    environment = os.environ | command.get("environment", {})
    begin = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, environment, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    spent = time.perf_counter() - begin
    os.close(given)
    if status != 0:
        code = os.waitstatus_to_exitcode(status)
        words = os.pread(output, 2000, 0).decode(errors="replace")
        sys.exit(f"round {number}: {' '.join(argv)}: code {code}: {words}")
    return spent


def main(specification: dict[str, Any]) -> None:
    commands = specification["commands"]
    samples: dict[str, list[float]] = {command["name"]: [] for command in commands}
    warmup = specification["warmup"]
    with tempfile.TemporaryFile() as output:
        for number in range(warmup + specification["rounds"]):
            turn = number % len(commands) if specification["rotate"] else 0
            for command in commands[turn:] + commands[:turn]:
                spent = measure(command, number=number, output=output.fileno())
                if number >= warmup:
                    samples[command["name"]].append(round(spent * 1000, 4))
    json.dump(samples, sys.stdout)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
