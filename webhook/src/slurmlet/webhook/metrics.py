"""What the webhook counts and measures, for Prometheus."""

from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

KINDS = frozenset(
    {
        "CronJob",
        "DaemonSet",
        "Deployment",
        "Job",
        "Pod",
        "ReplicaSet",
        "Service",
        "StatefulSet",
    }
)
OPERATIONS = frozenset({"CREATE", "UPDATE", "DELETE", "CONNECT"})
OTHER = "other"
"""Of what a caller writes, anything may come; a label has few values."""
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 3.0)
"""Seconds: a decision takes one or two milliseconds, and after 3 s the API server has given up."""

Outcome = Literal["allowed", "patched", "denied", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """All of them are in the registry that `metrics_in` was given."""

    requests: Counter
    duration: Histogram
    policy_age: Gauge
    not_after: Gauge
    reloads: Counter

    def answered(
        self, *, kind: object, operation: object, outcome: Outcome, seconds: float
    ) -> None:
        """One request more, which took so many seconds."""
        shown = kind if isinstance(kind, str) and kind in KINDS else OTHER
        verb = operation if isinstance(operation, str) and operation in OPERATIONS else OTHER
        self.requests.labels(kind=shown, operation=verb, outcome=outcome).inc()
        self.duration.labels(kind=shown).observe(seconds)


def metrics_in(registry: CollectorRegistry) -> Metrics:
    """The webhook's metrics, registered."""
    found = Metrics(
        requests=Counter(
            "slurmlet_webhook_requests",
            "Admission requests by what became of them; error: not understood, so refused",
            ("kind", "operation", "outcome"),
            registry=registry,
        ),
        duration=Histogram(
            "slurmlet_webhook_request_duration_seconds",
            "From the first byte that the application sees to its answer",
            ("kind",),
            buckets=BUCKETS,
            registry=registry,
        ),
        policy_age=Gauge(
            "slurmlet_webhook_policy_age_seconds",
            "Since the agent wrote the policy snapshot that counts; +Inf: there was none yet",
            registry=registry,
        ),
        not_after=Gauge(
            "slurmlet_webhook_certificate_not_after_timestamp_seconds",
            "When the serving certificate ends, in Unix time",
            registry=registry,
        ),
        reloads=Counter(
            "slurmlet_webhook_certificate_reloads",
            "Changes of the serving certificate's files; failure: the earlier one is still served",
            ("result",),
            registry=registry,
        ),
    )
    for result in ("success", "failure"):
        found.reloads.labels(result=result)
    return found
