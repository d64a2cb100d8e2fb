"""Who may call the kubelet API."""

from typing import Any

import pytest
from tests.unit.kubelet.fakes import FakeApi

from slurmlet.common.kube import Object
from slurmlet.kubelet.api.auth import Attributes, Authorizer, Caller, attributes, caller_of

CERTIFICATE = {
    "subject": (
        (("organizationName", "system:masters"),),
        (("organizationName", "second"),),
        (("commonName", "kube-apiserver-kubelet-client"),),
    )
}


def test_the_certificate_names_the_caller() -> None:
    assert caller_of(CERTIFICATE) == Caller(
        user="kube-apiserver-kubelet-client", groups=("system:masters", "second")
    )
    assert caller_of(None) is None
    assert caller_of({}) is None


@pytest.mark.parametrize(
    ("method", "path", "verb", "subresources"),
    [
        ("GET", "/healthz", "get", ("healthz", "proxy")),
        ("GET", "/pods", "get", ("pods", "proxy")),
        ("GET", "/runningpods/", "get", ("pods", "proxy")),
        ("GET", "/containerLogs/a/b/c", "get", ("proxy",)),
        ("GET", "/exec/a/b/c", "create", ("proxy",)),
        ("GET", "/attach/a/b/c", "create", ("proxy",)),
        ("GET", "/portForward/a/b", "create", ("proxy",)),
        ("POST", "/run/a/b/c", "create", ("proxy",)),
        ("GET", "/metrics/resource", "get", ("metrics",)),
        ("GET", "/logs/", "get", ("log",)),
        ("GET", "/unheard", "get", ("proxy",)),
    ],
)
def test_what_is_asked_of_the_authorizer(
    method: str, path: str, verb: str, subresources: tuple[str, ...]
) -> None:
    assert attributes(method, path) == Attributes(verb=verb, subresources=subresources)


class Reviews(FakeApi):
    """Allows one user one subresource."""

    async def create(self, path: str, body: Object) -> Object:
        self.log.append(("POST", path, body))
        spec: Any = body["spec"]
        allowed = spec["user"] == "good" and spec["resourceAttributes"]["subresource"] == "proxy"
        return {"status": {"allowed": allowed}}


async def test_answers_are_remembered() -> None:
    api = Reviews()
    authorizer = Authorizer(api, "slurm")  # type: ignore[arg-type]
    wanted = attributes("GET", "/pods")
    for _ in range(3):
        assert await authorizer.allows(Caller(user="good"), wanted)
        assert not await authorizer.allows(Caller(user="bad"), wanted)
    assert len(api.log) == 4
