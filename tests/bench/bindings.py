"""Tells when pods of a namespace are bound: a process of its own, so that nothing delays its clock.

    python -m tests.bench.bindings KUBECONFIG NAMESPACE NODE COUNT SECONDS

Prints a line when it watches, and another when the first pod is bound. After COUNT pods, or
SECONDS, it prints JSON: the name of each pod that was bound to NODE since then, and
time.monotonic() when this was seen.
"""

import asyncio
import json
import sys
import time
from contextlib import suppress

from slurmlet.common.kube import Api


async def main() -> None:
    kubeconfig, namespace, node, count, seconds = sys.argv[1:]
    seen: dict[str, float] = {}
    async with await Api.from_kubeconfig(kubeconfig) as api:
        with suppress(TimeoutError):
            async with asyncio.timeout(float(seconds)):
                await watch(api, seen, namespace=namespace, node=node, count=int(count))
    json.dump(seen, sys.stdout)


async def watch(api: Api, seen: dict[str, float], *, namespace: str, node: str, count: int) -> None:
    """Writes into `seen` until there are so many."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    selector = {"fieldSelector": f"spec.nodeName={node}"}
    _, version = await api.list(path, selector)
    print("watching", flush=True)
    # The API server ends the watch of a client that a busy machine lets wait: it is resumed.
    while len(seen) < count:
        async for event in api.watch(path, {**selector, "resourceVersion": version}):
            metadata = event["object"]["metadata"]
            version = metadata["resourceVersion"]
            # With this selector a pod is added when it is bound.
            if event["type"] == "ADDED":
                if not seen:
                    print("first", flush=True)
                seen[metadata["name"]] = time.monotonic()
            if len(seen) >= count:
                break


if __name__ == "__main__":
    asyncio.run(main())
