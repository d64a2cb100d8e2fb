"""Who makes Services headless: the webhook, or policies."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

from tests.integration.webhook.conftest import SECONDS, Webhook

MAKERS = ("webhook", "policy")
_PREFIX = re.compile(r"Validation failed for ValidatingAdmissionPolicy '\S+' with binding '\S+': ")


def serve(maker: str, webhook: Webhook, kubectl: Callable[..., str], *arguments: str) -> None:
    """Register one, and wait until it alone is in force."""
    webhook.bootstrap("--services", maker, *arguments)
    port = {"port": 80, "targetPort": 81}
    tried: dict[str, Any] = {"ports": [port], "type": "NodePort"}
    meta = {"name": "try", "labels": {"slurmlet.io/try": maker}}
    item = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": tried}
    dry = ("create", "--dry-run=server", "-o", "json", "-f", "-")
    deadline = time.monotonic() + SECONDS
    while True:
        said = kubectl("admin", "-n", "alice", *dry, stdin=json.dumps(item))
        # In a dry run policies warn of nothing (docs/adr/0013).
        if '"clusterIP": "None"' in said and ("Warning" in said) is (maker == "webhook"):
            return
        assert time.monotonic() < deadline, said
        time.sleep(0.2)


def warnings(said: str) -> list[str]:
    """What kubectl printed as warnings, without the names of policies."""
    lines = re.findall(r"^Warning: (.*)$", said, re.MULTILINE)
    return [_PREFIX.sub("", line) for line in lines]
