"""The reflector against a fake seam: what it stores and what it says about changes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest

from slurmlet.common import reflector as module
from slurmlet.common.kube import Api, ApiError, Object, UnreachableError
from slurmlet.common.reflector import Reflector


def pod(name: str, version: int, uid: str = "u") -> Object:
    metadata = {"namespace": "alice", "name": name, "resourceVersion": str(version), "uid": uid}
    return {"metadata": metadata | {"managedFields": [{"manager": "kubectl"}]}}


class FakeApi:
    """Plays a script: each list and each watch takes the next entry; then it waits for ever."""

    def __init__(self, lists: list[Any], watches: list[Any]) -> None:
        self.lists = lists
        self.watches = watches
        self.watched_from: list[str] = []
        self.played = asyncio.Event()

    async def list(self, path: str, params: Mapping[str, str]) -> tuple[list[Object], str]:
        if not self.lists:
            self.played.set()
            await asyncio.Event().wait()
        answer = self.lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer, "10"

    async def watch(self, path: str, params: Mapping[str, str]) -> AsyncIterator[Object]:
        self.watched_from.append(params["resourceVersion"])
        if not self.watches:
            self.played.set()
            await asyncio.Event().wait()
        for step in self.watches.pop(0):
            if isinstance(step, Exception):
                raise step
            yield step


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.001, 0.002))


async def play(api: FakeApi) -> tuple[Reflector, list[tuple[str, bool, bool]]]:
    """Run the script to its end; changes are (key, was there before, is there after)."""
    changes: list[tuple[str, bool, bool]] = []

    def note(key: str, before: Object | None, after: Object | None) -> None:
        changes.append((key, before is not None, after is not None))

    reflector = Reflector(cast(Api, api), "/api/v1/pods", on_change=note)
    task = asyncio.create_task(reflector.run())
    await asyncio.wait_for(api.played.wait(), 5)
    task.cancel()
    return reflector, changes


async def test_list_then_events() -> None:
    events = [
        {"type": "MODIFIED", "object": pod("web", 11)},
        {"type": "ADDED", "object": pod("job", 12)},
        {"type": "DELETED", "object": pod("web", 13)},
    ]
    reflector, changes = await play(FakeApi([[pod("web", 9)]], [events]))
    assert list(reflector.store) == ["alice/job"]
    assert changes == [
        ("alice/web", False, True),
        ("alice/web", True, True),
        ("alice/job", False, True),
        ("alice/web", True, False),
    ]
    assert "managedFields" not in reflector.store["alice/job"]["metadata"]


async def test_a_clean_end_resumes_from_the_last_bookmark_without_a_list() -> None:
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "40"}}}
    api = FakeApi([[]], [[bookmark]])
    await play(api)
    assert api.watched_from == ["10", "40"]


@pytest.mark.parametrize(
    "error",
    [UnreachableError("gone"), ApiError(status=410, reason="Expired", message="")],
    ids=["connection lost", "410"],
)
async def test_what_vanished_while_away_is_reported(error: Exception) -> None:
    api = FakeApi([[pod("web", 1), pod("job", 2)], [pod("job", 2)]], [[error]])
    reflector, changes = await play(api)
    assert list(reflector.store) == ["alice/job"]
    assert changes[-1] == ("alice/web", True, False)
    assert len(changes) == 3, "an unchanged object is no change"


async def test_a_failed_list_changes_nothing() -> None:
    refusal = ApiError(status=500, reason="InternalError", message="")
    api = FakeApi([[pod("web", 1)], refusal, refusal], [[UnreachableError("gone")]])
    reflector, changes = await play(api)
    assert list(reflector.store) == ["alice/web"]
    assert changes == [("alice/web", False, True)]


async def test_not_synced_before_the_first_list() -> None:
    api = FakeApi([UnreachableError("no")], [])
    reflector, _ = await play(api)
    assert not reflector.synced.is_set()
