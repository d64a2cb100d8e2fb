"""The reflector against a fake seam: what it stores and what it says about changes."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest

from slurmlet.common import reflector as module
from slurmlet.common.kube import Api, ApiError, Object, Trim, UnreachableError
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

    async def list(
        self, path: str, params: Mapping[str, str], *, trim: Trim
    ) -> tuple[list[Object], str]:
        if not self.lists:
            self.played.set()
            await asyncio.Event().wait()
        answer = self.lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [trim(item) for item in answer], "10"

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


async def play(
    api: FakeApi, *, trim: Trim | None = None
) -> tuple[Reflector, list[tuple[str, bool, bool]]]:
    """Run the script to its end; changes are (key, was there before, is there after)."""
    changes: list[tuple[str, bool, bool]] = []

    def note(key: str, before: Object | None, after: Object | None) -> None:
        changes.append((key, before is not None, after is not None))

    reflector = Reflector(cast(Api, api), "/api/v1/pods", on_change=note, trim=trim)
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


async def test_only_what_is_kept_of_an_object_is_stored_and_compared() -> None:
    def trim(item: Object) -> Object:
        metadata = item["metadata"]
        names = ("namespace", "name", "resourceVersion")
        return {"metadata": {name: metadata[name] for name in names}}

    added = {"type": "ADDED", "object": pod("job", 12)}
    reflector, _ = await play(FakeApi([[pod("web", 9)]], [[added]]), trim=trim)
    assert reflector.store["alice/web"] == trim(pod("web", 9))
    assert reflector.store["alice/job"] == trim(pod("job", 12))


@pytest.mark.parametrize(
    "step",
    [
        {"type": "MODIFIED", "object": {"kind": "Status", "metadata": {}, "code": 500}},
        {"type": "MODIFIED", "object": {"metadata": {"resourceVersion": "12"}}},
        {"type": "MODIFIED", "object": []},
        {"type": "BOOKMARK", "object": {}},
    ],
    ids=str,
)
async def test_an_event_about_no_object_is_a_lost_watch(step: Object) -> None:
    api = FakeApi([[pod("web", 1)], [pod("web", 1), pod("job", 2)]], [[step]])
    reflector, changes = await play(api)
    assert sorted(reflector.store) == ["alice/job", "alice/web"]
    assert len(changes) == 2


async def test_a_list_of_no_objects_changes_nothing() -> None:
    no_version: Object = {"metadata": {"namespace": "alice", "name": "web"}}
    lists = [[pod("web", 1)], [{"kind": "Status"}], ["web"], [no_version], [pod("web", 1)]]
    reflector, changes = await play(FakeApi(lists, [[UnreachableError("gone")]]))
    assert list(reflector.store) == ["alice/web"]
    assert len(changes) == 1


async def test_it_says_since_when_nothing_has_worked() -> None:
    refusal = ApiError(status=500, reason="InternalError", message="")
    working, _ = await play(FakeApi([[pod("web", 1)]], []))
    assert working.lost_since is None
    lost, _ = await play(FakeApi([[pod("web", 1)], refusal, refusal], [[UnreachableError("gone")]]))
    assert lost.lost_since is not None
    assert lost.last_heard <= lost.lost_since <= time.monotonic()
    never, _ = await play(FakeApi([refusal], []))
    assert never.lost_since is not None


@pytest.mark.claim("K55")
async def test_a_silent_watch_has_not_worked_since_the_last_word() -> None:
    refusal = ApiError(status=500, reason="InternalError", message="")
    for silent in (True, False):
        gone = UnreachableError("gone", silent=silent)
        lost, _ = await play(FakeApi([[pod("web", 1)], refusal], [[gone]]))
        assert lost.lost_since is not None
        assert (lost.lost_since == lost.last_heard) == silent


async def test_a_watch_that_ends_in_order_has_worked_until_then() -> None:
    silence = UnreachableError("a list that takes too long", silent=True)
    short = [{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "11"}}}]
    api = FakeApi([[]], [short, [silence]])
    heard: list[float] = []
    genuine = api.watch

    async def watch(path: str, params: Mapping[str, str]) -> AsyncIterator[Object]:
        async for event in genuine(path, params):
            yield event
        heard.append(time.monotonic())

    api.watch = watch  # type: ignore[method-assign]
    reflector, _ = await play(api)
    assert reflector.lost_since is not None
    assert heard[0] <= reflector.lost_since


async def test_it_waits_as_long_as_the_server_asks() -> None:
    busy = ApiError(status=429, reason="TooManyRequests", message="", retry_after=0.3)
    started = time.monotonic()
    await play(FakeApi([busy, [pod("web", 1)]], []))
    assert time.monotonic() - started >= 0.3


async def test_a_watch_that_ends_at_once_is_not_begun_again_and_again() -> None:
    api = FakeApi([[], []], [[]])
    await play(api)
    assert api.watched_from == ["10", "10"]
    assert not api.lists, "it was listed anew, after a pause"
