"""What a watch told of pods: states that last too short for looks at intervals."""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.e2e.conftest import ROOT, Lab

LONGEST = 600
"""Seconds after which a watch ends by itself, whatever became of its test."""


class Watch:
    """All that was seen of a user's pods with a label."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def of(self, name: str) -> list[dict[str, Any]]:
        """The pod's states in their order, each once."""
        self._file.seek(0)
        text, decoder, position = self._file.read(), json.JSONDecoder(), 0
        found: list[dict[str, Any]] = []
        while position < len(text):
            try:
                item, position = decoder.raw_decode(text, position)
            except ValueError:
                # The last one is being written.
                break
            position += len(text[position:]) - len(text[position:].lstrip())
            if item["metadata"]["name"] == name:
                found.append(item)
        return found


@contextmanager
def watch(lab: Lab, label: str, user: str = "alice") -> Iterator[Watch]:
    """Watch from now on."""
    words = ["timeout", str(LONGEST), "kubectl", "get", "pods", "-l", label, "-w", "-o", "json"]
    argv = [str(ROOT / "lab"), "exec", "ctl", "--name", lab.name, "--user", user, "--", *words]
    with tempfile.TemporaryFile("w+") as file:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file)
        try:
            yield Watch(file)
        finally:
            process.terminate()
            process.wait(timeout=30)


def conditions(pod: Mapping[str, Any]) -> dict[str, str]:
    """Type → status, with the reason behind a slash where there is one."""
    return {
        item["type"]: "/".join(filter(None, (item["status"], item.get("reason"))))
        for item in pod["status"].get("conditions") or ()
    }
