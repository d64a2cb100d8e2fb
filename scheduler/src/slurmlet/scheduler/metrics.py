"""What the scheduler counts and measures, under kube-scheduler's names where it means the same."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from slurmlet.scheduler.queue import PLACES, Place

Result = Literal["scheduled", "unschedulable", "error"]

ATTEMPT_BUCKETS = tuple(0.001 * 2**power for power in range(15))
SLI_BUCKETS = tuple(0.01 * 2**power for power in range(20))
"""Seconds; both are kube-scheduler's, so that its dashboards fit."""
MOST_ATTEMPTS = 16
"""Of a label: kube-scheduler tells pods with more attempts from one another no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """All of them are in the registry that `metrics_in` was given."""

    attempts: Counter
    attempt_duration: Histogram
    sli_duration: Histogram
    incoming: Counter
    leader: Gauge
    events_lost: Counter

    def attempted(self, *, result: Result, profile: str, seconds: float) -> None:
        """One attempt more; `profile` is the pod's scheduler name."""
        self.attempts.labels(result=result, profile=profile).inc()
        self.attempt_duration.labels(result=result, profile=profile).observe(seconds)

    def scheduled(self, *, attempts: int, seconds: float) -> None:
        """A pod was bound with its n-th attempt, so many seconds after it could have been first."""
        shown = str(attempts) if attempts < MOST_ATTEMPTS else f"{MOST_ATTEMPTS}+"
        self.sli_duration.labels(attempts=shown).observe(seconds)

    def count_incoming(self, event: str, place: Place) -> None:
        """A pod came to a place because of an event."""
        self.incoming.labels(event=event, queue=place).inc()


def metrics_in(registry: CollectorRegistry) -> Metrics:
    """The scheduler's metrics, registered."""
    return Metrics(
        attempts=Counter(
            "scheduler_schedule_attempts",
            "Attempts to schedule pods, by result and the pod's scheduler name",
            ("result", "profile"),
            registry=registry,
        ),
        attempt_duration=Histogram(
            "scheduler_scheduling_attempt_duration_seconds",
            "A verdict and what follows from it: the binding, or the condition that says why not",
            ("result", "profile"),
            buckets=ATTEMPT_BUCKETS,
            registry=registry,
        ),
        sli_duration=Histogram(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "From when a pod could first be scheduled until it was bound, all attempts together",
            ("attempts",),
            buckets=SLI_BUCKETS,
            registry=registry,
        ),
        incoming=Counter(
            "scheduler_queue_incoming_pods",
            "Pods that came to a queue, by the event that brought them",
            ("event", "queue"),
            registry=registry,
        ),
        leader=Gauge(
            "leader_election_master_status",
            "1 while this process leads",
            ("name",),
            registry=registry,
        ),
        events_lost=Counter(
            "slurmlet_scheduler_events_lost",
            "Events that were not written, by why: the queue was full, or the API server refused",
            ("why",),
            registry=registry,
        ),
    )


def pending_in(registry: CollectorRegistry, pending: Callable[[Place], int]) -> None:
    """Show how many pods wait where."""
    gauge = Gauge(
        "scheduler_pending_pods",
        "Pods that wait: to be tried, to rest after a failure, for a node, for their gates",
        ("queue",),
        registry=registry,
    )
    for place in PLACES:
        gauge.labels(queue=place).set_function(partial(pending, place))
