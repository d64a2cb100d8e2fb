"""Forwards to the endpoints behind an Ingress, which it asks the API server for each time."""

import os
import urllib.request

from api import get
from serve import serve


def address():
    ingress = get("networking.k8s.io/v1", f"ingresses/{os.environ['INGRESS']}")
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    service = path["backend"]["service"]
    selector = f"kubernetes.io/service-name={service['name']}"
    slices = get("discovery.k8s.io/v1", f"endpointslices?labelSelector={selector}")["items"]
    return next(
        f"{endpoint['addresses'][0]}:{port['port']}"
        for part in slices
        for endpoint in part["endpoints"] or []
        for port in part["ports"]
        if endpoint["conditions"]["ready"] and port["name"] == service["port"]["name"]
    )


def say(_):
    try:
        return urllib.request.urlopen(f"http://{address()}", timeout=5).read().decode()
    except (OSError, StopIteration) as error:
        return f"bad gateway: {error!r}"


serve(8080, say)
