"""The HTTP side: decode, decide, answer, and one JSON line in the log per decision."""

import json
import logging
import time
from collections.abc import Callable
from http import HTTPStatus

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from slurmlet.contracts.policy import Snapshot
from slurmlet.webhook.decision import Decision, Object
from slurmlet.webhook.metrics import Metrics, Outcome
from slurmlet.webhook.review import ReviewError, decode, encode, mutate, validate
from slurmlet.webhook.templates import BUILT_IN, Templates

Judge = Callable[[Object], Decision]

MAX_BODY = 3 * 1024 * 1024
"""The API server's own limit on a request; a review adds a few hundred bytes to an object that
etcd bounds at 1.5 MiB, and an UPDATE holds two of them."""
MAX_LOGGED = 300
"""Characters of a name: Kubernetes has none that is longer."""

decisions = logging.getLogger("slurmlet.webhook.decisions")
log = logging.getLogger(__name__)


def create_app(
    policy: Callable[[], Snapshot], metrics: Metrics, templates: Templates = BUILT_IN
) -> Flask:
    """The application; it holds no state and does no I/O beyond its log. `policy` is asked once for
    each request."""
    app = Flask("slurmlet.webhook", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY

    @app.get("/healthz")
    @app.get("/readyz")
    def healthz() -> Response:
        return Response("ok", mimetype="text/plain")

    @app.post("/mutate")
    def mutating() -> Response:
        return review(lambda asked: mutate(asked, policy()))

    @app.post("/validate")
    def validating() -> Response:
        return review(lambda asked: validate(asked, policy(), templates))

    def review(judge: Judge) -> Response:
        started = time.perf_counter()
        try:
            asked = decode(_body())
        except (ReviewError, HTTPException) as error:
            log.warning("refused a body: %s", error)
            seconds = time.perf_counter() - started
            metrics.answered(kind=None, operation=None, outcome="error", seconds=seconds)
            status = getattr(error, "code", None) or HTTPStatus.BAD_REQUEST
            return Response(f"{error}\n", status=status, mimetype="text/plain")
        decision, answer, outcome = _decide(asked, judge)
        seconds = time.perf_counter() - started
        decisions.info("%s", json.dumps(_record(asked, decision, seconds)))
        kind, operation = asked["kind"].get("kind"), asked["operation"]
        metrics.answered(kind=kind, operation=operation, outcome=outcome, seconds=seconds)
        return Response(answer, mimetype="application/json")

    return app


def _body() -> bytes:
    try:
        return request.get_data(cache=False)
    except HTTPException:
        raise
    except Exception as error:
        # gunicorn's, of a body whose chunks are malformed, while it is read.
        raise ReviewError(f"the body cannot be read: {type(error).__name__}") from None


def _decide(asked: Object, judge: Judge) -> tuple[Decision, str, Outcome]:
    """What was decided, its answer's text, and what to count it as."""
    try:
        decision = judge(asked)
        answer = json.dumps(encode(asked["uid"], decision))
    except Exception:
        # Answering 500 would say only "failed calling webhook" to the user.
        log.exception("request %s: cannot be decided", _text(asked["uid"]))
        refused = Decision(
            denial="the object has a form that slurmlet-webhook cannot read; check its fields, or"
            f" ask the administrator for the webhook's log of request {_text(asked['uid'])}"
        )
        return refused, json.dumps(encode(asked["uid"], refused)), "error"
    if decision.denial is not None:
        return decision, answer, "denied"
    return decision, answer, "patched" if decision.patch else "allowed"


def _record(asked: Object, decision: Decision, seconds: float) -> dict[str, object]:
    item = asked.get("object")
    names = item.get("metadata") if isinstance(item, dict) else None
    names = names if isinstance(names, dict) else {}
    user = asked.get("userInfo")
    return {
        "uid": _text(asked["uid"]),
        "operation": _text(asked["operation"]),
        "kind": _text(asked["kind"].get("kind")),
        "namespace": _text(asked.get("namespace")),
        "name": _text(asked.get("name") or names.get("name") or names.get("generateName")),
        "user": _text(user.get("username")) if isinstance(user, dict) else None,
        "dryRun": bool(asked.get("dryRun")),
        "allowed": decision.denial is None,
        "denial": decision.denial,
        "patched": [op["path"] for op in decision.patch],
        "warnings": list(decision.warnings),
        "milliseconds": round(seconds * 1000, 3),
    }


def _text(value: object) -> str | None:
    """A name as it is logged: the caller may have sent anything in its place."""
    return value[:MAX_LOGGED] if isinstance(value, str) else None
