"""Files of volumes made from API objects."""

import base64
from collections.abc import Mapping

from tests.unit.kubelet.fakes import UID, pod

from slurmlet.contracts.podproto import Volume
from slurmlet.kubelet.references import Found
from slurmlet.kubelet.volumes import build, field_value, token_requests

FOUND: Found = {
    ("ConfigMap", "settings"): {
        "kind": "ConfigMap",
        "data": {"colour": "green", "size": "1"},
        "binaryData": {"logo": "AAE="},
    },
    ("Secret", "word"): {"kind": "Secret", "data": {"magic": "eHl6enk="}},
    ("ConfigMap", "kube-root-ca.crt"): {"kind": "ConfigMap", "data": {"ca.crt": "PEM"}},
}
ACCOUNT = {
    "name": "kube-api-access",
    "projected": {
        "defaultMode": 0o640,
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca"}]}},
            {
                "downwardAPI": {
                    "items": [
                        {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
                    ]
                }
            },
        ],
    },
}


def content(volume: Volume) -> dict[str, tuple[bytes, int]]:
    return {file.path: (base64.b64decode(file.data), file.mode) for file in volume.files}


def built(*volumes: Mapping[str, object]) -> list[dict[str, tuple[bytes, int]]]:
    item = pod(volumes=list(volumes))
    tokens = {("kube-api-access", "token"): "secret-token"}
    return [content(volume) for volume in build(item, found=FOUND, tokens=tokens)]


def test_the_service_account_volume() -> None:
    assert built(ACCOUNT) == [
        {
            "token": (b"secret-token", 0o640),
            "ca": (b"PEM", 0o640),
            "namespace": (b"alice", 0o640),
        }
    ]
    requests = list(token_requests(pod(volumes=[ACCOUNT])))
    assert requests == [("kube-api-access", {"path": "token", "expirationSeconds": 3607})]


def test_config_maps_and_secrets() -> None:
    maps = {"name": "c", "configMap": {"name": "settings", "defaultMode": 0o400}}
    chosen = {
        "name": "s",
        "secret": {
            "secretName": "word",
            "items": [{"key": "magic", "path": "a/b", "mode": 0o600}],
        },
    }
    assert built(maps, chosen) == [
        {"colour": (b"green", 0o400), "size": (b"1", 0o400), "logo": (b"\0\1", 0o400)},
        {"a/b": (b"xyzzy", 0o600)},
    ]


def test_an_optional_object_that_is_missing_is_an_empty_volume() -> None:
    assert built({"name": "c", "configMap": {"name": "none", "optional": True}}) == [{}]


def test_emptydir_is_the_supervisor_s() -> None:
    (volume,) = build(pod(volumes=[{"name": "tmp", "emptyDir": {}}]), found={}, tokens={})
    assert (volume.kind, volume.files) == ("emptyDir", ())


def test_fields() -> None:
    item = pod(metadata={"labels": {"b": 'say "hi"', "a": "1"}})
    assert field_value(item, "metadata.labels") == 'a="1"\nb="say \\"hi\\""'
    assert field_value(item, "metadata.labels['a']") == "1"
    assert field_value(item, "metadata.uid") == UID
    assert field_value(item, "spec.nodeName") == ""
