"""How many pods are on each virtual node."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from slurmlet.common.kube import Api, Object
from slurmlet.common.reflector import Reflector

Left = Callable[[str], None]
"""Called with the name of a node that a pod has left; `running` counts it no more."""


@dataclass(frozen=True, slots=True)
class _Followed:
    reflector: Reflector
    task: asyncio.Task[None]


class Occupancy:
    """Counts pods that are bound to the followed nodes and have not ended, those among them that
    are just being bound. Nodes of others are not looked at, however many pods they have."""

    def __init__(self, api: Api, *, left: Left) -> None:
        self._api = api
        self._left = left
        self._followed: dict[str, _Followed] = {}

    @property
    def running(self) -> Mapping[str, int]:
        """Name of a node → pods on it; a node whose pods are not known yet is absent."""
        return {
            name: len(one.reflector.store)
            for name, one in self._followed.items()
            if one.reflector.synced.is_set()
        }

    @property
    def reflectors(self) -> Mapping[str, Reflector]:
        """Name of a node → who watches the pods on it. May be called in threads."""
        return {name: one.reflector for name, one in list(self._followed.items())}

    def follow(self, nodes: Collection[str], group: asyncio.TaskGroup) -> None:
        """Count on these nodes from now on, in tasks of the group, and on no others."""
        for name in self._followed.keys() - set(nodes):
            gone = self._followed.pop(name)
            gone.task.cancel()
            # Whoever waits for it has to look again.
            gone.reflector.synced.set()
        for name in set(nodes) - self._followed.keys():
            reflector = self._reflector(name)
            self._followed[name] = _Followed(reflector, group.create_task(reflector.run()))

    async def known(self) -> None:
        """Return once the pods on all nodes that are followed then are known."""
        while missing := [one for one in self.reflectors.values() if not one.synced.is_set()]:
            await missing[0].synced.wait()

    def assume(self, node: str, key: str, *, uid: str) -> None:
        """A pod is being bound. It counts at once, as in kube-scheduler: else many would be bound
        to the last place before the watch tells of the first."""
        if node in self._followed:
            store = self._followed[node].reflector.store
            if key not in store or _assumed(store[key]):
                store[key] = {"metadata": {"resourceVersion": "0", "uid": uid}}

    def forget(self, node: str, key: str, *, uid: str) -> bool:
        """It was not bound after all. Whether it counts no more: another pod of its name may be
        under way by now."""
        store = self._followed[node].reflector.store if node in self._followed else {}
        if key in store and _assumed(store[key]) and store[key]["metadata"]["uid"] == uid:
            del store[key]
            return True
        return False

    def _reflector(self, node: str) -> Reflector:
        def changed(_key: str, _before: Object | None, after: Object | None) -> None:
            if after is None:
                self._left(node)

        selector = f"spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed"
        return Reflector(
            self._api,
            "/api/v1/pods",
            params={"fieldSelector": selector},
            on_change=changed,
            trim=_trim,
        )


def _assumed(pod: Object) -> bool:
    return bool(pod["metadata"]["resourceVersion"] == "0")


def _trim(pod: Object) -> Object:
    metadata = pod["metadata"]
    return {"metadata": {key: metadata[key] for key in ("namespace", "name", "resourceVersion")}}
