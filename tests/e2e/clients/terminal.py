"""Plays a session on a terminal: python3 terminal.py COMMAND..., a line of JSON on standard input.

The session is a list of [what to type, what must then appear (a regular expression)]; a size
[ROWS, COLUMNS] in place of what to type resizes the terminal. Prints the transcript and the code.
"""

import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
import time

SECONDS = 30
AGAIN = 2.0
"""Seconds after which a control character is typed again: a shell takes none while it hands the
terminal over."""


def expect(terminal: int, pattern: str, *, again: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + SECONDS
    while not re.search(pattern.encode(), seen):
        ready, _, _ = select.select([terminal], [], [], AGAIN)
        if not ready and time.monotonic() < deadline:
            os.write(terminal, again)
            continue
        if not ready:
            print(f"no {pattern!r} in {seen!r}", flush=True)
            sys.exit(90)
        try:
            data = os.read(terminal, 4096)
        except OSError:
            data = b""
        if not data:
            print(f"ended before {pattern!r}: {seen!r}", flush=True)
            sys.exit(91)
        seen += data
    return seen


def main() -> None:
    session = json.loads(sys.stdin.readline())
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(sys.argv[1], sys.argv[1:])
    for typed, pattern in session:
        if isinstance(typed, str):
            os.write(terminal, typed.encode())
        else:
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *typed, 0, 0))
        control = isinstance(typed, str) and len(typed) == 1 and typed < " "
        again = typed.encode() if control else b""
        sys.stdout.write(expect(terminal, pattern, again=again).decode(errors="replace"))
        sys.stdout.flush()
    try:
        while data := os.read(terminal, 4096):
            sys.stdout.write(data.decode(errors="replace"))
    except OSError:
        pass
    _, status = os.waitpid(child, 0)
    print("code", os.waitstatus_to_exitcode(status))


main()
