"""A local copy of a collection, kept by one list and a watch that is proved alive."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping

from slurmlet.common.kube import Api, ApiError, Object, Trim, UnreachableError

log = logging.getLogger(__name__)

WATCH_SECONDS = (240, 480)
"""The server ends a watch after a random time in this range, so that no watch is trusted long."""
RESYNC_SECONDS = 600
"""After this time a watch is not resumed but the collection listed again and compared."""
BACKOFF_SECONDS = (0.1, 10.0)
"""An API server that is back after a while is found within the longer one."""
SHORT_SECONDS = 1
"""A watch that ends so soon and brings nothing is no watch that can be resumed."""
STEADY_SECONDS = 10
"""What has worked for so long fails anew when it fails."""

_MALFORMED = (AttributeError, KeyError, TypeError, RecursionError)
"""What reading an object raises that is none."""

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

    `trim` returns what is stored of an object, its `metadata` with name and resourceVersion among
    it. For health checks, in time.monotonic(): `last_heard` is when the last list, event or orderly
    end of a watch came, `lost_since` since when neither list nor watch has worked, None while they
    do. A watch without a word works until its limit is over, and then has not since the last word.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        on_change: OnChange,
        trim: Trim | None = None,
    ) -> None:
        self.store: dict[str, Object] = {}
        self.synced = asyncio.Event()
        self.last_heard = time.monotonic()
        self.lost_since: float | None = self.last_heard
        self._api = api
        self._path = path
        self._params = dict(params or {})
        self._on_change = on_change
        self._trim = trim or _without_managed_fields

    async def run(self) -> None:
        """Keep the store true until cancelled."""
        failures = 0
        while True:
            started = time.monotonic()
            try:
                await self._list_and_watch()
                failures = 0
            except (ApiError, UnreachableError) as error:
                failures = 0 if time.monotonic() - started > STEADY_SECONDS else failures + 1
                expired = isinstance(error, ApiError) and error.status == 410
                if not expired:
                    log.warning("%s: %s", self._path, error)
                silent = isinstance(error, UnreachableError) and error.silent
                self.lost_since = self.lost_since or (
                    self.last_heard if silent else time.monotonic()
                )
                low, high = BACKOFF_SECONDS
                pause = random.uniform(low, min(high, low * 2 ** min(failures, 10)))
                asked = error.retry_after if isinstance(error, ApiError) else 0.0
                await asyncio.sleep(0 if expired and failures <= 1 else max(pause, asked))

    async def _list_and_watch(self) -> None:
        items, version = await self._list()
        self._replace(items)
        listed = time.monotonic()
        while time.monotonic() - listed < RESYNC_SECONDS:
            seconds = random.randint(*WATCH_SECONDS)
            params = {**self._params, "resourceVersion": version, "timeoutSeconds": str(seconds)}
            began = time.monotonic()
            async for event in self._api.watch(self._path, params):
                version = self._take(event)
            if self.last_heard < began and time.monotonic() - began < SHORT_SECONDS:
                raise UnreachableError(f"watch {self._path}: ended at once, without a word")
            self._heard()

    async def _list(self) -> tuple[list[Object], str]:
        try:
            items, version = await self._api.list(self._path, self._params, trim=self._trim)
            for item in items:
                key_of(item), _version_of(item)
        except _MALFORMED as error:
            raise UnreachableError(f"a list of what is no object: {error!r}") from None
        return items, version

    def _take(self, event: Object) -> str:
        """Do what a watch event says; the resourceVersion that it brings."""
        item: Object = event["object"]
        try:
            version = _version_of(item)
            fresh = None if event["type"] == "BOOKMARK" else self._trim(item)
            key = key_of(fresh) if fresh else ""
        except _MALFORMED as error:
            raise UnreachableError(f"an event about what is no object: {error!r}") from None
        self._heard()
        if fresh:
            self._apply(key, fresh, deleted=event["type"] == "DELETED")
        return version

    def _replace(self, items: list[Object]) -> None:
        fresh = {key_of(item): item for item in items}
        self._heard()
        for key in [key for key in self.store if key not in fresh]:
            self._on_change(key, self.store.pop(key), None)
        for key, item in fresh.items():
            self._apply(key, item, deleted=False)
        self.synced.set()

    def _heard(self) -> None:
        self.last_heard = time.monotonic()
        self.lost_since = None

    def _apply(self, key: str, item: Object, *, deleted: bool) -> None:
        before = self.store.get(key)
        if deleted:
            self.store.pop(key, None)
            self._on_change(key, item, None)
            return
        self.store[key] = item
        if before is None or _version_of(before) != _version_of(item):
            self._on_change(key, before, item)


def _version_of(item: Object) -> str:
    return str(item["metadata"]["resourceVersion"])


def _without_managed_fields(item: Object) -> Object:
    item["metadata"].pop("managedFields", None)
    return item
