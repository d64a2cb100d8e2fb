"""Who makes Services headless: the webhook, or policies."""

import json
import re
import time
from collections.abc import Callable

from tests.integration.webhook.conftest import SECONDS, Webhook
from tests.integration.webhook.site import publish

from slurmlet.contracts.policy import Snapshot

MAKERS = ("webhook", "policy")
_PREFIX = re.compile(r"Validation failed for ValidatingAdmissionPolicy '\S+' with binding '\S+': ")


def serve(
    maker: str, webhook: Webhook, kubectl: Callable[..., str], *, pod_network: bool | None = None
) -> None:
    """Register one, and wait until it alone is in force and knows of the pods' network."""
    without = pod_network is False
    publish(webhook.policy, Snapshot(pod_network=pod_network))
    more = ("--no-pod-network",) if without and maker == "policy" else ()
    webhook.bootstrap("--services", maker, *more)
    tried = {
        "type": "NodePort",
        "selector": {"app": "try"},
        "ports": [{"port": 80, "targetPort": 81}],
    }
    item = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "try"}, "spec": tried}
    alice = ("alice", "-n", "alice")
    deadline = time.monotonic() + SECONDS
    while True:
        said = kubectl(*alice, "create", "-f", "-", stdin=json.dumps(item))
        kubectl(*alice, "delete", "service/try")
        told = "\n".join(re.findall(r"^Warning: .*became.*$", said, re.MULTILINE))
        is_policy, is_without = bool(_PREFIX.search(told)), "no network of their own" in said
        if told and (is_policy, is_without) == (maker == "policy", without):
            return
        assert time.monotonic() < deadline, said
        time.sleep(0.2)


def warnings(said: str) -> list[str]:
    """What kubectl printed as warnings, without the names of policies."""
    lines = re.findall(r"^Warning: (.*)$", said, re.MULTILINE)
    return [_PREFIX.sub("", line) for line in lines]
