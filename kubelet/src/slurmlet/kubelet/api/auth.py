"""Who may call the kubelet API: a certificate of the cluster's CA, and the API server's consent."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slurmlet.common.kube import Api

ALLOWED_SECONDS = 300.0
DENIED_SECONDS = 30.0
MAX_CACHED = 1024

_FINE = {
    "healthz": "healthz",
    "pods": "pods",
    "runningpods": "pods",
    "metrics": "metrics",
    "stats": "stats",
    "logs": "log",
    "configz": "configz",
    "checkpoint": "checkpoint",
}
_EXCLUSIVE = frozenset({"metrics", "stats", "log", "checkpoint"})
_ALTERING = frozenset({"exec", "attach", "portForward", "run", "cri"})
_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "DELETE": "delete"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The subject of a client certificate."""

    user: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What a request is to the authorizer: a verb on one of several subresources of the node."""

    verb: str
    subresources: tuple[str, ...]


def caller_of(certificate: Mapping[str, Any] | None) -> Caller | None:
    """The caller from a verified certificate as `ssl` describes it."""
    pairs = [pair for name in (certificate or {}).get("subject", ()) for pair in name]
    names = [value for key, value in pairs if key == "commonName"]
    if not names:
        return None
    groups = tuple(value for key, value in pairs if key == "organizationName")
    return Caller(user=names[-1], groups=groups)


def attributes(method: str, path: str) -> Attributes:
    """What kubelet asks the authorizer for; streams into containers need `create` whatever the
    method, because a WebSocket is opened by GET."""
    root = path.strip("/").split("/", 1)[0]
    verb = "create" if root in _ALTERING else _VERBS.get(method, "update")
    fine = _FINE.get(root)
    if fine in _EXCLUSIVE:
        return Attributes(verb=verb, subresources=(fine,))
    return Attributes(verb=verb, subresources=(fine, "proxy") if fine else ("proxy",))


@dataclass(slots=True)
class Authorizer:
    """Asks the API server by SubjectAccessReview and remembers the answers."""

    api: Api
    node: str
    _cache: dict[tuple[Caller, str, str], tuple[bool, float]] = field(default_factory=dict)

    async def allows(self, caller: Caller, wanted: Attributes) -> bool:
        """Whether one of the subresources is allowed.

        Raises:
            ApiError, UnreachableError: the API server did not decide.
        """
        for subresource in wanted.subresources:
            if await self._allowed(caller, wanted.verb, subresource):
                return True
        return False

    async def _allowed(self, caller: Caller, verb: str, subresource: str) -> bool:
        key = (caller, verb, subresource)
        cached = self._cache.get(key)
        now = time.monotonic()
        if cached and now < cached[1]:
            return cached[0]
        review = await self.api.create(
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": caller.user,
                    "groups": [*caller.groups, "system:authenticated"],
                    "resourceAttributes": {
                        "verb": verb,
                        "version": "v1",
                        "resource": "nodes",
                        "subresource": subresource,
                        "name": self.node,
                    },
                },
            },
        )
        allowed = bool((review.get("status") or {}).get("allowed"))
        if len(self._cache) >= MAX_CACHED:
            self._cache.clear()
        self._cache[key] = (allowed, now + (ALLOWED_SECONDS if allowed else DENIED_SECONDS))
        return allowed
