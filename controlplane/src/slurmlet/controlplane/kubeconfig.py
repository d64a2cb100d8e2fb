"""The text of a kubeconfig with its certificates inside."""

import base64
import json


def render(*, server: str, user: str, ca: bytes, certificate: bytes, key: bytes) -> str:
    """A kubeconfig for one user of one cluster. JSON, because JSON is YAML and needs no quoting."""

    def data(pem: bytes) -> str:
        return base64.b64encode(pem).decode()

    context = f"{user}@slurmlet"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "slurmlet",
                "cluster": {"server": server, "certificate-authority-data": data(ca)},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": data(certificate),
                    "client-key-data": data(key),
                },
            }
        ],
        "contexts": [{"name": context, "context": {"cluster": "slurmlet", "user": user}}],
        "current-context": context,
    }
    return json.dumps(document, indent=2) + "\n"


def client_pair(text: str) -> tuple[bytes, bytes]:
    """Certificate and key (PEM) of such a kubeconfig. Raises ValueError if it is not one."""
    try:
        user = json.loads(text)["users"][0]["user"]
        return (
            base64.b64decode(user["client-certificate-data"], validate=True),
            base64.b64decode(user["client-key-data"], validate=True),
        )
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"not a kubeconfig of this cluster: {error!r}") from None
