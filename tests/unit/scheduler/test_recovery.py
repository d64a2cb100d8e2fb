from collections.abc import Callable
from typing import Any, cast

import pytest

from slurmlet.common.kube import Api, UnreachableError
from slurmlet.scheduler import recovery
from slurmlet.scheduler.recorder import Recorder
from slurmlet.scheduler.recovery import tell_untold

Make = Callable[..., dict[str, Any]]
NAMES = frozenset({"slurmlet-scheduler"})


class FakeApi:
    """Bound pods; the first lists fail as often as said."""

    def __init__(self, pods: list[Any], *, failures: int = 0) -> None:
        self.pods = pods
        self.failures = failures

    async def list(self, path: str, params: Any, *, trim: Any) -> tuple[list[Any], str]:
        assert (path, params) == ("/api/v1/pods", {"fieldSelector": "spec.nodeName=slurm"})
        if self.failures:
            self.failures -= 1
            raise UnreachableError("refused")
        return [trim(pod) for pod in self.pods], "1"


class FakeRecorder:
    def __init__(self) -> None:
        self.told: list[str] = []

    async def write(self, pod: Any, *, reason: str, note: str) -> None:
        assert reason == "Scheduled"
        assert note == f"Successfully assigned alice/{pod['metadata']['name']} to slurm"
        self.told.append(pod["metadata"]["name"])


def bound(pod: dict[str, Any], since: str, **condition: str) -> dict[str, Any]:
    pod["spec"]["nodeName"] = "slurm"
    pod["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": since, **condition}
    ]
    return pod


async def tell(api: FakeApi, renewed: str = "2026-01-02T03:04:05.123456Z") -> list[str]:
    recorder = FakeRecorder()
    await tell_untold(
        cast(Api, api),
        recorder=cast(Recorder, recorder),
        names=NAMES,
        nodes=["slurm"],
        renewed=renewed,
    )
    return recorder.told


@pytest.mark.claim("K40")
async def test_what_was_bound_since_shortly_before_the_last_renewal_is_told(pod: Make) -> None:
    late, by_hand = "2026-01-02T03:04:00Z", pod(name="by-hand")
    api = FakeApi(
        [
            bound(pod(name="late"), late),
            bound(pod(name="after"), "2026-01-02T03:09:00Z"),
            bound(pod(name="early"), "2026-01-02T03:02:00Z"),
            bound(pod(name="others", schedulerName="kube"), late),
            bound(pod(name="odd"), "yesterday"),
            bound(pod(name="false"), late, status="False"),
            by_hand,
        ]
    )
    assert await tell(api) == ["late", "after"]


async def test_who_follows_nobody_has_nothing_to_tell(pod: Make) -> None:
    api = FakeApi([bound(pod(), "2026-01-02T03:04:00Z")])
    assert await tell(api, renewed="") == []


async def test_it_tries_again_and_gives_up(pod: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "PAUSES", (0.0, 0.0, 0.0))
    pods = [bound(pod(), "2026-01-02T03:04:00Z")]
    assert await tell(FakeApi(pods, failures=2)) == ["web"]
    assert await tell(FakeApi(pods, failures=3)) == []
