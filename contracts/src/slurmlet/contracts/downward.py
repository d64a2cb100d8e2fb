"""What the downward API says of resources, in environment and volumes (docs/contracts.md, Pod →
job)."""

import json
from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from typing import Any

from slurmlet.contracts.names import REQUEST_ANNOTATION
from slurmlet.contracts.quantity import QuantityError, parse
from slurmlet.contracts.request import effective_resources


def resource_value(
    pod: Mapping[str, Any],
    reference: Mapping[str, Any],
    *,
    container: Mapping[str, Any] | None = None,
) -> str:
    """A container's request or limit in units of the divisor, rounded up; `container` is who asks,
    if the reference names none. A limit that is not set is what the pod's job has.

    Raises:
        QuantityError: no resource of a container, or a quantity that cannot be read.
    """
    kind, _, resource = str(reference.get("resource", "")).partition(".")
    if kind not in ("requests", "limits") or not resource:
        raise QuantityError(f"unsupported resource: {reference.get('resource')}")
    spec = pod["spec"]
    everybody = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    named = (item for item in everybody if item["name"] == reference.get("containerName"))
    holder = next(named, container)
    if holder is None:
        raise QuantityError(f"no container {reference.get('containerName')!r}")
    resources = holder.get("resources") or {}
    text = (resources.get(kind) or {}).get(resource)
    if text is None and kind == "requests":
        text = (resources.get("limits") or {}).get(resource)
    if text is not None:
        value = parse(text)
    else:
        value = _of_the_job(pod, resource) if kind == "limits" else Fraction(0)
    divisor = parse(reference.get("divisor") or 1) or Fraction(1)
    return str(ceil(value / divisor))


def _of_the_job(pod: Mapping[str, Any], resource: str) -> Fraction:
    asked = effective_resources(pod["spec"], "requests").get(resource)
    if asked:
        return asked
    try:
        options = json.loads((pod["metadata"].get("annotations") or {})[REQUEST_ANNOTATION])
        if resource == "cpu":
            return parse(options["cpus-per-task"])
        if resource == "memory":
            return parse(f"{options['mem']}i")
    except (KeyError, TypeError, ValueError):
        pass
    return Fraction(0)
