"""A local copy of a collection, kept by one list and a watch that is proved alive."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping

from slurmlet.common.kube import Api, ApiError, Object, UnreachableError

log = logging.getLogger(__name__)

WATCH_SECONDS = (240, 480)
"""The server ends a watch after a random time in this range, so that no watch is trusted long."""
RESYNC_SECONDS = 600
"""After this time a watch is not resumed but the collection listed again and compared."""
BACKOFF_SECONDS = (0.1, 30.0)

OnChange = Callable[[str, Object | None, Object | None], None]
"""Called with the key, the object before and the object after; None stands for absent. It must
not block: a queue takes the key."""


def key_of(item: Object) -> str:
    """`namespace/name`, or the name of what has no namespace."""
    metadata = item["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


class Reflector:
    """`store` holds what the server last said; `synced` is set once there was a first list.

    `last_heard` is time.monotonic() of the last list or event, for health checks.
    """

    def __init__(
        self, api: Api, path: str, *, params: Mapping[str, str] | None = None, on_change: OnChange
    ) -> None:
        self.store: dict[str, Object] = {}
        self.synced = asyncio.Event()
        self.last_heard = time.monotonic()
        self._api = api
        self._path = path
        self._params = dict(params or {})
        self._on_change = on_change

    async def run(self) -> None:
        """Keep the store true until cancelled."""
        failures = 0
        while True:
            started = time.monotonic()
            try:
                await self._list_and_watch()
                failures = 0
            except (ApiError, UnreachableError) as error:
                failures = 0 if time.monotonic() - started > 60 else failures + 1
                expired = isinstance(error, ApiError) and error.status == 410
                if not expired:
                    log.warning("%s: %s", self._path, error)
                low, high = BACKOFF_SECONDS
                pause = random.uniform(low, min(high, low * 2 ** min(failures, 10)))
                await asyncio.sleep(0 if expired and failures <= 1 else pause)

    async def _list_and_watch(self) -> None:
        items, version = await self._api.list(self._path, self._params)
        self._replace(items)
        listed = time.monotonic()
        while time.monotonic() - listed < RESYNC_SECONDS:
            seconds = random.randint(*WATCH_SECONDS)
            params = {**self._params, "resourceVersion": version, "timeoutSeconds": str(seconds)}
            async for event in self._api.watch(self._path, params):
                item: Object = event["object"]
                version = item["metadata"]["resourceVersion"]
                self.last_heard = time.monotonic()
                if event["type"] != "BOOKMARK":
                    self._apply(item, deleted=event["type"] == "DELETED")

    def _replace(self, items: list[Object]) -> None:
        fresh = {key_of(item): item for item in items}
        self.last_heard = time.monotonic()
        for key in [key for key in self.store if key not in fresh]:
            self._on_change(key, self.store.pop(key), None)
        for item in fresh.values():
            self._apply(item, deleted=False)
        self.synced.set()

    def _apply(self, item: Object, *, deleted: bool) -> None:
        key = key_of(item)
        item["metadata"].pop("managedFields", None)
        before = self.store.get(key)
        if deleted:
            self.store.pop(key, None)
            self._on_change(key, item, None)
            return
        self.store[key] = item
        if (
            before is None
            or before["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]
        ):
            self._on_change(key, before, item)
