"""Every example is accepted as alice, as it stands, and with no more warnings than it promises."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Kubectl = Callable[..., str]
EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
WARNED = {"hpk.yaml", "interlink.yaml", "knoc.yaml", "slurm-bridge.yaml"}


def pods(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods that an object would bring about."""
    if item["kind"] == "Pod":
        return [item]
    template = item.get("spec", {}).get("template")
    if not template:
        return []
    metadata = {"name": item["metadata"]["name"], **template["metadata"]}
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}]


@pytest.mark.usefixtures("webhook")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_accepted(kubectl: Kubectl, path: Path) -> None:
    items = list(yaml.safe_load_all(path.read_text()))
    made = [pod for item in items for pod in pods(item)]
    assert made
    others = [item for item in items if item["kind"] != "Pod"]
    wanted = {"apiVersion": "v1", "kind": "List", "items": others + made}
    # --validate=strict: a field with a typing error is an error.
    arguments = ("create", "--dry-run=server", "--validate=strict", "-f", "-")
    said = kubectl("bob", "-n", "bob", *arguments, stdin=json.dumps(wanted))
    assert said.count("(server dry run)") == len(wanted["items"])
    assert ("Warning" in said) is (path.name in WARNED), said
    for item in items:
        assert "slurmlet.io/example" in item["metadata"]["labels"], "the demo removes by label"
