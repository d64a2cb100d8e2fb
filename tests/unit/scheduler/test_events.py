from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from slurmlet.scheduler.events import event, unschedulable

Make = Callable[..., dict[str, Any]]
NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def with_condition(item: dict[str, Any], **condition: str) -> dict[str, Any]:
    item["status"]["conditions"] = [{"type": "PodScheduled", **condition}]
    return item


def test_a_refusal_is_written_with_the_uid_of_the_pod(pod: Make) -> None:
    patch = unschedulable(pod(), "no node", now=NOW)
    assert patch == {
        "metadata": {"uid": "uid-web"},
        "status": {
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": "no node",
                    "lastTransitionTime": "2026-01-02T03:04:05Z",
                }
            ]
        },
    }


def test_what_the_pod_says_already_is_not_written_again(pod: Make) -> None:
    item = with_condition(pod(), status="False", reason="Unschedulable", message="no node")
    assert unschedulable(item, "no node", now=NOW) is None


def test_a_new_message_keeps_the_time_of_the_transition(pod: Make) -> None:
    item = with_condition(
        pod(), status="False", reason="Unschedulable", message="x", lastTransitionTime="then"
    )
    patch = unschedulable(item, "no node", now=NOW)
    assert patch is not None
    assert patch["status"]["conditions"][0]["lastTransitionTime"] == "then"


def test_events_are_about_the_pod_and_bounded(pod: Make) -> None:
    made = event(pod(), reason="FailedScheduling", note="x" * 5000, instance="ctl", now=NOW)
    assert made["regarding"]["uid"] == "uid-web"
    assert made["type"] == "Warning"
    assert made["eventTime"] == "2026-01-02T03:04:05.000678Z"
    assert len(made["note"]) == 1024
    again = event(pod(), reason="Scheduled", note="y", instance="ctl", now=NOW)
    assert again["type"] == "Normal"
    assert again["metadata"]["name"] != made["metadata"]["name"]
