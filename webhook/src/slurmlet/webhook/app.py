"""The HTTP side: decode, decide, answer, and one JSON line in the log per decision."""

import json
import logging
import time
from collections.abc import Callable

from flask import Flask, Response, jsonify, request

from slurmlet.contracts.policy import Snapshot
from slurmlet.contracts.request import RequestPolicy
from slurmlet.webhook.decision import Decision, Object
from slurmlet.webhook.review import ReviewError, decode, encode, mutate, validate
from slurmlet.webhook.templates import BUILT_IN, Templates

Judge = Callable[[Object], Decision]

MAX_BODY = 3 * 1024 * 1024
"""The API server's own limit on a request; a review adds a few hundred bytes to an object that
etcd bounds at 1.5 MiB, and an UPDATE holds two of them."""

decisions = logging.getLogger("slurmlet.webhook.decisions")
log = logging.getLogger(__name__)


def create_app(policy: RequestPolicy, templates: Templates = BUILT_IN) -> Flask:
    """The application; it holds no state and does no I/O beyond its log."""
    app = Flask("slurmlet.webhook", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY

    @app.get("/healthz")
    @app.get("/readyz")
    def healthz() -> Response:
        return Response("ok", mimetype="text/plain")

    @app.post("/mutate")
    def mutating() -> Response:
        return review(lambda asked: mutate(asked, policy))

    @app.post("/validate")
    def validating() -> Response:
        return review(lambda asked: validate(asked, Snapshot(request=policy), templates))

    def review(judge: Judge) -> Response:
        started = time.perf_counter()
        try:
            asked = decode(request.get_data(cache=False))
        except ReviewError as error:
            log.warning("refused a body: %s", error)
            return Response(f"{error}\n", status=400, mimetype="text/plain")
        decision = _decide(asked, judge)
        milliseconds = (time.perf_counter() - started) * 1000
        decisions.info("%s", json.dumps(_record(asked, decision, milliseconds)))
        return jsonify(encode(asked["uid"], decision))

    return app


def _decide(asked: Object, judge: Judge) -> Decision:
    try:
        return judge(asked)
    except Exception:
        # Answering 500 would say only "failed calling webhook" to the user.
        log.exception("request %s: cannot be decided", asked["uid"])
        return Decision(
            denial="the object has a form that slurmlet-webhook cannot read; check its fields, or"
            f" ask the administrator for the webhook's log of request {asked['uid']}"
        )


def _record(asked: Object, decision: Decision, milliseconds: float) -> dict[str, object]:
    names = (asked.get("object") or {}).get("metadata")
    names = names if isinstance(names, dict) else {}
    user = asked.get("userInfo")
    return {
        "uid": asked["uid"],
        "operation": asked["operation"],
        "kind": asked["kind"].get("kind"),
        "namespace": asked.get("namespace"),
        "name": asked.get("name") or names.get("name") or names.get("generateName"),
        "user": user.get("username") if isinstance(user, dict) else None,
        "dryRun": bool(asked.get("dryRun")),
        "allowed": decision.denial is None,
        "denial": decision.denial,
        "patched": [op["path"] for op in decision.patch],
        "warnings": list(decision.warnings),
        "milliseconds": round(milliseconds, 3),
    }
