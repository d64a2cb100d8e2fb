"""The Services of all namespaces, and what pods are told of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slurmlet.common.kube import Api, Object
from slurmlet.common.reflector import Reflector
from slurmlet.contracts.podproto import Update
from slurmlet.kubelet import services
from slurmlet.kubelet.events import Events
from slurmlet.kubelet.records import Record

API_SERVICE = "default/kubernetes"
CONFLICT = "ServicePortConflict"
IGNORED = "ServicePortIgnored"


class ServiceWatch:
    """`on_change` gets the namespace in which a Service changed, or None: that of the API server
    did, which concerns all."""

    def __init__(self, api: Api, *, on_change: Callable[[str | None], None]) -> None:
        self._on_change = on_change
        self._reflector = Reflector(api, "/api/v1/services", on_change=self._changed)
        self._names: dict[str, set[str]] = {}

    async def run(self) -> None:
        """Keep the copy true until cancelled."""
        await self._reflector.run()

    @property
    def known(self) -> bool:
        """Whether they were ever listed: before that, none known is not none there."""
        return self._reflector.synced.is_set()

    def of(self, namespace: str) -> list[Object]:
        """The Services of a namespace."""
        keys = self._names.get(namespace, ())
        return [self._reflector.store[key] for key in keys if key in self._reflector.store]

    def api_service(self) -> Object | None:
        """The Service by which pods look for the API server."""
        return self._reflector.store.get(API_SERVICE)

    def _changed(self, key: str, before: Object | None, after: Object | None) -> None:
        namespace = key.partition("/")[0]
        if after is None:
            self._names.get(namespace, set()).discard(key)
        else:
            self._names.setdefault(namespace, set()).add(key)
        self._on_change(None if key == API_SERVICE else namespace)


@dataclass(frozen=True, slots=True, kw_only=True)
class Updates:
    """Tells pods with a network of their own what Services want of it. `server` is the URL of the
    API server."""

    watch: ServiceWatch
    events: Events
    server: str

    async def tell(self, pod: Mapping[str, Any], record: Record) -> None:
        """Send what changed since this supervisor was last told, and put new conflicts on the pod.

        Raises:
            ConnectionError, TimeoutError: the supervisor does not take it.
        """
        session = record.session
        if session is None or not record.ip or not self.watch.known:
            return
        own = self.watch.of(record.namespace)
        if record.ip == record.host_ip:
            self._ignored(pod, record, own)
            return
        mapped = services.mapped(pod, own)
        self._report(pod, record, CONFLICT, mapped.conflicts)
        update = Update(
            services=mapped.redirections,
            forwardings=services.api_forwarding(self.watch.api_service(), server=self.server),
        )
        if session.told != update:
            await session.send(update)
            session.told = update

    def _ignored(self, pod: Mapping[str, Any], record: Record, own: list[Object]) -> None:
        ignored = tuple(
            f"{wish}, but a pod in its node's network is reached at its own ports only"
            for wish in services.wishes(pod, own)
            if wish.port != wish.target
        )
        self._report(pod, record, IGNORED, ignored)

    def _report(
        self, pod: Mapping[str, Any], record: Record, reason: str, sentences: tuple[str, ...]
    ) -> None:
        """Each once, until it is gone and comes again."""
        for sentence in sentences:
            if sentence not in record.complaints:
                self.events.emit(pod, reason, sentence, kind="Warning")
        record.complaints = frozenset(sentences)
