"""The credential by which a compute node knows a pod's job (docs/contracts.md, Pod → job)."""

import json
import os

from slurmlet.broker.process import run_as_self

_TIMEOUT = 10.0
"""Seconds for munged, which answers in milliseconds or is down."""


class CredentialError(Exception):
    """munge does not sign here; the message says why."""


def payload(*, uid: int, pod_uid: str, mode: str) -> str:
    """What is signed: whose job, of which pod, with what kind of sandbox."""
    return json.dumps({"version": 1, "uid": uid, "podUID": pod_uid, "mode": mode})


def credential(program: str, *, uid: int, pod_uid: str, mode: str) -> str:
    """A munge credential made by root that only root can decode; empty without root, whose jobs'
    sandboxes are not made by a prolog.

    Raises:
        CredentialError: munge fails.
    """
    if os.geteuid() != 0 or not program:
        return ""
    ended = run_as_self(
        [program, "--restrict-uid=0"],
        stdin=payload(uid=uid, pod_uid=pod_uid, mode=mode).encode(),
        timeout=_TIMEOUT,
    )
    if ended.code != 0:
        words = ended.stderr.decode(errors="replace").strip()[-200:]
        raise CredentialError(f"munge does not sign: {words or 'no answer'}")
    return ended.stdout.decode("ascii").strip()
