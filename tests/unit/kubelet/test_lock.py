"""Two agents on one state directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurmlet.common.config import ConfigError
from slurmlet.kubelet import lock

HOLDER = """
import sys
from pathlib import Path
from slurmlet.kubelet import lock
lock.hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_the_second_is_told_of_the_first(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=rf"another agent \(process {first.pid}\) holds"):
            lock.hold(tmp_path)
        first.kill()
        first.wait(timeout=10)
        os.close(lock.hold(tmp_path))
