"""What is left is told from what is used."""

import json
import subprocess
import sys

from slurmlab.leftovers import LOOK, Trace, left, parse


def test_what_a_live_job_uses_is_not_left() -> None:
    traces = [
        Trace(kind="sandbox", text="/run/slurmlet/jobs/7", job=7),
        Trace(kind="mount", text="/run/slurmlet/jobs/8/ns/net", job=8),
        Trace(kind="interface", text="veth1"),
        Trace(kind="process", text="sleep (uid 2001)", owner=2001),
        Trace(kind="file", text="/dev/shm/x (uid 2002)", owner=2002),
    ]
    assert left(traces, jobs={7, 8}, owners={2001, 2002}) == ["interface veth1"]
    assert left(traces, jobs={7}, owners={2002}) == [
        "interface veth1",
        "mount /run/slurmlet/jobs/8/ns/net",
        "process sleep (uid 2001)",
    ]
    assert len(left(traces, jobs=(), owners=())) == len(traces)


def test_the_script_s_answer_is_understood() -> None:
    argv = [sys.executable, "-I", "-c", LOOK, "control"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert len(parse(done.stdout)) == len(json.loads(done.stdout))
