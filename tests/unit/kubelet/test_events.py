"""Events on pods."""

import asyncio
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kubelet.fakes import FakeApi, pod

from slurmlet.kubelet.events import Events

LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
SUBDOMAIN = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(\.{LABEL})*")


async def written(item: dict[str, Any]) -> dict[str, Any]:
    told: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    class Api(FakeApi):
        async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
            told.set_result(body)
            return body

    api: Any = Api()
    events = Events(api)
    events.emit(item, "Pulled", "there")
    running = asyncio.create_task(events.run())
    body = await told
    running.cancel()
    return body


@given(st.integers(1, 253), st.integers(1, 252), st.sampled_from("-."))
def test_an_event_of_any_pod_has_a_name(length: int, place: int, mark: str) -> None:
    """Kubernetes takes dashes and dots everywhere in a pod's name but at the ends."""
    name = "".join(mark if index == place else "a" for index in range(length - 1)) + "a"
    assert SUBDOMAIN.fullmatch(name)
    metadata = asyncio.run(written(pod(name)))["metadata"]
    assert SUBDOMAIN.fullmatch(metadata["name"]), metadata
    assert metadata["name"].startswith(name[:100])
