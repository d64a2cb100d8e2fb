import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from slurmlet.webhook.decision import parts

Apply = Callable[[Mapping[str, Any], Iterable[Mapping[str, Any]]], dict[str, Any]]


@pytest.fixture(scope="session")
def apply() -> Apply:
    """Applies `add` and `remove` of members, strictly: a missing parent is an error."""

    def run(item: Mapping[str, Any], patch: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        result = copy.deepcopy(dict(item))
        for op in patch:
            *parents, last = parts(op["path"])
            target: Any = result
            for parent in parents:
                target = target[int(parent) if isinstance(target, list) else parent]
            if op["op"] == "remove":
                del target[last]
            else:
                assert op["op"] == "add"
                target[last] = copy.deepcopy(op["value"])
        return result

    return run
