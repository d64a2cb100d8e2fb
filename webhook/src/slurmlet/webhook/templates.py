"""What makes pods is judged when it is applied, as its pods will be: then the user hears of a
mistake, and not a controller (docs/contracts.md, Templates). Pure.

An object that was accepted once stays usable when the policy shrinks: an update is refused only for
a mistake that its templates did not have before.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from slurmlet.contracts.admission import Verdict, judge
from slurmlet.contracts.aliases import ALIASES, FLAG_ALIASES
from slurmlet.contracts.names import PREFIX, TAINT_KEY
from slurmlet.contracts.policy import Snapshot
from slurmlet.contracts.wording import MOST, in_one, is_shortened, named, some
from slurmlet.webhook.decision import UNCHANGED, Decision, Object
from slurmlet.webhook.pods import is_ours

Path = tuple[str, ...]
"""Names of members from the object to its template; `*` stands for each item or each member."""
Templates = Mapping[str, tuple[Path, ...]]
"""GROUP/VERSION/RESOURCE, as `kubectl api-resources` shows it → where its pod templates are."""

_TEMPLATE = ("spec", "template")
_DEPLOYMENTS, _DAEMON_SETS = "apps/v1/deployments", "apps/v1/daemonsets"
_JOBS, _CRON_JOBS = "batch/v1/jobs", "batch/v1/cronjobs"
BUILT_IN: Templates = {
    _DEPLOYMENTS: (_TEMPLATE,),
    "apps/v1/statefulsets": (_TEMPLATE,),
    _DAEMON_SETS: (_TEMPLATE,),
    "apps/v1/replicasets": (_TEMPLATE,),
    _JOBS: (_TEMPLATE,),
    _CRON_JOBS: (("spec", "jobTemplate", "spec", "template"),),
}
MOST_TEMPLATES = 100
"""Of one object that are judged: a list has place for 200,000, and each takes a fraction of a
millisecond. Pods of the others are judged when they are made."""
PROGRESS_SECONDS = 600
"""The API server's default of progressDeadlineSeconds: nobody chose it, so nobody is warned."""

_RESOURCE = re.compile(r"[a-z0-9][a-z0-9.-]*/v[0-9][a-z0-9]*/[a-z][a-z0-9]*")
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_-]*|\.\*|\[\*\])*")


class TemplatesError(ValueError):
    """A table of custom resources that cannot be used."""


def with_custom(custom: Mapping[str, Sequence[str]]) -> Templates:
    """The built-in resources and those of a site, whose paths read `spec.groups[*].template`.

    Raises:
        TemplatesError: a key or a path that cannot be read.
    """
    for resource, paths in custom.items():
        if not _RESOURCE.fullmatch(resource):
            raise TemplatesError(
                f"{resource!r} is no resource; write GROUP/VERSION/RESOURCE, such as"
                ' "batch.example.org/v1/trainings"'
            )
        for path in paths:
            if not _PATH.fullmatch(path):
                raise TemplatesError(
                    f"{resource}: {path!r} is no path; write spec.template, or"
                    " spec.groups[*].template for each group"
                )
    return {
        **BUILT_IN,
        **{
            resource: tuple(tuple(path.replace("[*]", ".*").split(".")) for path in paths)
            for resource, paths in custom.items()
        },
    }


def validate(request: Object, policy: Snapshot, templates: Templates = BUILT_IN) -> Decision:
    """The decision on the CREATE or UPDATE of an object with pod templates."""
    resource = _resource(request)
    item = _mapping(request.get("object"))
    paths = templates.get(resource)
    if not paths or _is_let_be(_mapping(item.get("metadata"))):
        return UNCHANGED
    old = _mapping(request.get("oldObject"))
    found, before = _find_all(item, paths), _find_all(old, paths)
    ours = {at: template for at, template in found.items() if _is_ours(resource, template, policy)}
    if not ours:
        return UNCHANGED
    errors: list[str] = []
    warnings: list[str] = []
    for at, template in ours.items():
        # Anywhere: an item of a list moves when one before it is removed.
        if template in before.values():
            continue
        namespace = str(request.get("namespace") or "")
        judged = _judge(template, namespace, policy)
        warnings += (f"{at}: {text}" for text in judged.warnings)
        had = _judge(before[at], namespace, policy).errors if at in before else ()
        for text in judged.errors:
            is_new = resource != _DAEMON_SETS and not _was_said(text, had)
            (errors if is_new else warnings).append(f"{at}: {text}")
    if resource in BUILT_IN:
        warnings += (*_misplaced(request, item, old), *_deadlines(resource, item, old))
    return Decision(denial=_denial(errors) if errors else None, warnings=tuple(some(warnings)))


def _judge(template: Object, namespace: str, policy: Snapshot) -> Verdict:
    """What will be said of a pod that is made of this template."""
    metadata, spec = _mapping(template.get("metadata")), _mapping(template.get("spec"))
    try:
        return judge(
            metadata,
            spec,
            namespace=namespace,
            policy=policy,
            template=True,
            partition=policy.nodes.get(spec.get("nodeName") or "", ""),
        )
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        # Not the form of a pod: the resource's owner, or the API server, has to say so.
        return Verdict()


def _is_let_be(metadata: Object) -> bool:
    """Being deleted, or made and changed by a controller, whose own template was judged."""
    owners = metadata.get("ownerReferences")
    owners = owners if isinstance(owners, list) else []
    return bool(metadata.get("deletionTimestamp")) or any(
        _mapping(owner).get("controller") is True for owner in owners
    )


def _is_ours(resource: str, template: Object, policy: Snapshot) -> bool:
    """Whether pods of the template come to a node of ours, as far as it says."""
    spec = _mapping(template.get("spec"))
    try:
        if not is_ours({"spec": spec}, policy.nodes):
            return False
    except TypeError:
        # Names that are none: of these no pod is made.
        return False
    # A DaemonSet is on each node whose taints it tolerates; on others nobody asks Slurm.
    return resource != _DAEMON_SETS or _tolerates_us(spec.get("tolerations"))


def _tolerates_us(tolerations: object) -> bool:
    items = tolerations if isinstance(tolerations, list) else []
    return any(_mapping(item).get("key") in (None, "", TAINT_KEY) for item in items)


def _misplaced(request: Object, item: Object, old: Object) -> Iterator[str]:
    """Annotations that only a pod can have, on the object itself."""
    annotations, before = _annotations(item), _annotations(old)
    kind = _mapping(request.get("kind")).get("kind")
    (path,) = BUILT_IN[_resource(request)]
    for key, value in annotations.items():
        asks = str(key).startswith(PREFIX) or key in (*FLAG_ALIASES, *ALIASES)
        if asks and before.get(key) != value:
            yield (
                f"metadata.annotations[{str(key)[:80]}]: {str(value)[:60]!r} has no effect on a"
                f" {kind}; move it to {'.'.join(path)}.metadata.annotations"
            )


def _deadlines(resource: str, item: Object, old: Object) -> Iterator[str]:
    """Times that go by while pods wait in Slurm's queue."""
    if resource in (_JOBS, _CRON_JOBS):
        *path, _ = BUILT_IN[resource][0]
        seconds = _number(item, (*path, "activeDeadlineSeconds"))
        if seconds and seconds != _number(old, (*path, "activeDeadlineSeconds")):
            at = ".".join(path)
            yield (
                f"{at}.activeDeadlineSeconds: {seconds} seconds, in which waiting in Slurm's queue"
                f" counts; use {at}.template.spec.activeDeadlineSeconds to limit how long a pod"
                " runs"
            )
    if resource == _DEPLOYMENTS:
        seconds = _number(item, ("spec", "progressDeadlineSeconds"))
        changed = seconds != _number(old, ("spec", "progressDeadlineSeconds"))
        if changed and seconds is not None and seconds < PROGRESS_SECONDS:
            yield (
                f"spec.progressDeadlineSeconds: {seconds} seconds, in which waiting in Slurm's"
                " queue counts; use a longer time, or the rollout is called failed meanwhile"
            )


def _find_all(item: Object, paths: tuple[Path, ...]) -> dict[str, Object]:
    found = (each for path in paths for each in _find(item, path, ""))
    return dict(islice(found, MOST_TEMPLATES))


def _find(item: object, path: Path, at: str) -> Iterator[tuple[str, Object]]:
    if not path:
        if isinstance(item, Mapping):
            yield at, item
        return
    step, rest = path[0], path[1:]
    if step == "*" and isinstance(item, list):
        for index, each in enumerate(item):
            yield from _find(each, rest, f"{at}[{index}]")
    elif isinstance(item, Mapping):
        for name in item if step == "*" else [step]:
            yield from _find(item.get(name), rest, f"{at}.{str(name)[:60]}".lstrip("."))


def _resource(request: Object) -> str:
    resource = _mapping(request.get("resource"))
    return "/".join(str(resource.get(part)) for part in ("group", "version", "resource"))


def _annotations(item: Object) -> Object:
    return _mapping(_mapping(item.get("metadata")).get("annotations"))


def _number(item: object, path: Path) -> int | None:
    for step in path:
        item = _mapping(item).get(step)
    return item if type(item) is int else None


def _was_said(text: str, had: Sequence[str]) -> bool:
    """Whether a template was wrong before in all that a sentence is about: each begins with its
    fields and a colon. Of very many it names some only, and then any may have been among them."""
    fields, _, why = text.partition(": ")
    before = [each.partition(": ") for each in had]
    known = {field for fields, _, _ in before for field in named(fields)}
    return named(fields) <= known or any(
        is_shortened(fields) and each == why for fields, _, each in before
    )


def _denial(errors: list[str]) -> str:
    more = len(errors) - MOST
    return in_one(errors[:MOST]) + (f"; and {more} more" if more > 0 else "")


def _mapping(value: Any) -> Object:
    return value if isinstance(value, Mapping) else {}
