"""Writes docs/annotations.md from what the code accepts: `gen_annotations.py`, run in the venv."""

import sys
from collections.abc import Mapping
from pathlib import Path

from slurmlet.contracts import aliases, annotations, names, podfields

PAGE = Path(__file__).parents[2] / "docs" / "annotations.md"

OPTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "account": ("account that is charged", ("phys",)),
    "partition": ("partition, or several to choose from", ("debug", "cpu,debug")),
    "qos": ("quality of service", ("normal",)),
    "time": ("time limit of the job, as sbatch reads it", ("30", "1:30:00", "2-12")),
    "nodes": ("nodes of the job; a pod runs on one", ("1",)),
    "ntasks": ("tasks that the job has room for", ("4",)),
    "ntasks-per-node": ("the same, by node", ("4",)),
    "cpus-per-task": ("CPUs, instead of what the pod's resources say", ("8",)),
    "mem": ("memory of the job, instead of what the pod's resources say", ("2000M", "4G")),
    "mem-per-cpu": (
        "memory by CPU, instead of the pod's resources; not beside `mem`",
        ("1G",),
    ),
    "gres": ("generic resources", ("gpu:2", "gpu:a100:1,shard:4")),
    "gpus": (
        "GPUs of the job; replaces the `gres` of the pod's resources; not beside GPUs in `gres`",
        ("2", "a100:1"),
    ),
    "constraint": ("features that the node must have", ("skylake", "skylake&ib")),
    "reservation": ("reservation to run in", ("course",)),
    "licenses": ("licences", ("matlab:2",)),
    "dependency": ("jobs to wait for", ("afterok:1234", "afterany:12:13,singleton")),
    "exclusive": ("a node without other jobs; an empty value means of anyone", ("", "user")),
    "wckey": ("workload characterisation key", ("paper7",)),
    "nice": ("lowers the priority", ("100",)),
    "begin": ("not before", ("now+1hour", "2030-01-31T08:00")),
    "deadline": ("remove the job if it cannot end before", ("2030-01-31T18:00",)),
    "hint": ("how the application uses cores", ("nomultithread",)),
    "mail-type": ("events to send mail about", ("END,FAIL",)),
    "exclude": ("hosts that the job must not get", ("c[1-4]",)),
    "nodelist": ("hosts that the job must get", ("c2",)),
    "threads-per-core": ("threads of a core that the job uses", ("1",)),
    "mail-user": ("who gets the mail", ("alice@example.org",)),
}
"""Meaning and examples of each option that contracts.annotations accepts."""

WRITTEN: Mapping[str, str] = {
    names.JOB_ID_ANNOTATION: "id of the pod's job",
    names.JOB_STATE_ANNOTATION: "the job's state, in Slurm's words",
    names.NODES_ANNOTATION: "nodes that the job runs on",
    names.REQUEST_ANNOTATION: "what the pod asks of Slurm, as JSON: long option → value",
    names.ATTEMPT_ANNOTATION: "which try the job is; 1 is the first",
}

_HEAD = f"""\
<!-- Made by tests/tools/gen_annotations.py; change that. -->

# Annotations of pods

A pod asks Slurm for something with an annotation whose key is `{names.PREFIX}` and the name of a
long option of sbatch:

```yaml
metadata:
  annotations:
    {names.PREFIX}partition: debug
    {names.PREFIX}time: "30"
```

Quote values that YAML would read as a number or a truth value. Put the annotations on the **pod**:
in a Deployment or a Job that is `spec.template.metadata.annotations`.

A value that sbatch could not mean is refused when the pod is created, with a message that names
the annotation. The exact patterns stand in `contracts/annotations.py`. Blanks around a value and in
a list are left out, and `4Gi` and `4g` of memory are `4G`. So is refused what the administrator's
identity map or the site's locks do not allow, and what no node has
([contracts](contracts.md#admission)); the rest is Slurm's to say. What wins when several sources
name one option: [contracts](contracts.md#annotations).

## Options

| key | meaning | examples |
|---|---|---|
"""

_SHORT = " ".join(f"`-{short}`" for short in annotations.SHORT_OPTIONS)

_TAIL = f"""
## Free text

`{names.FLAGS_ANNOTATION}` holds options as they would follow `sbatch`:

```yaml
    {names.FLAGS_ANNOTATION}: --partition=debug --time 30 -c 2
```

It is split by the rules of a shell, but no shell sees it. Allowed are the options above, in their
long form or in the short one that sbatch has for them, and a few that have no key of their own:

FREE

Short forms: {_SHORT}.
Anything else is refused, and so is a text of more than {annotations.MAX_FLAGS_LENGTH} characters.
An option that also has a key of its own takes the value of that key.

## Engine

`{names.ENGINE_ANNOTATION}` names the container engine for the pod, one of those that the site
allows (`crun`, `apptainer`). Without it the site's default runs the pod.

## Init

`{names.INIT_ANNOTATION}: "false"` makes the pod's programs PID 1 of their containers, for images
that insist on it, such as those of s6-overlay. Without it an init of ours is, which reaps what
steps leave behind.

## Defaults of a namespace

What stands under `{names.NAMESPACE_PREFIX}` on a pod was copied from the annotations of its
namespace under `{names.PREFIX}` when it was made: the same keys, which count where the pod's spec
and its own annotations say nothing.

## Keys of other systems

Manifests for other bridges between Kubernetes and Slurm run as they are. These keys are read as if
they were ours, with a warning that names the key to use:

| key | is read as | for instance |
|---|---|---|
ALIASES

These are refused, because the administrator's identity map says which user runs the pods of a
namespace: REFUSED.

Any other key under these prefixes has no effect; one warning names those that a pod has:

| prefix | of |
|---|---|
FOREIGN

## Written by slurmlet

What you write under `{names.STATUS_PREFIX}` is removed when the pod is created, and undone when
it is changed.

| key | value |
|---|---|
"""


_FIELDS = """
## Fields of pods

What becomes of each field of a Pod of Kubernetes 1.36. A field stands for all below it that is not
listed itself. `containers[*]` are init containers, too, and `*` is whatever is not honoured there.

Refused, by `kubectl apply` and once more by the agent:

| field | why, and what to do |
|---|---|
REFUSALS

Accepted with a warning, and ignored:

| field | why, and what to do |
|---|---|
WARNINGS

Ignored without a word:

| field | why |
|---|---|
HARMLESS

Honoured, with a difference to an ordinary node:

| field | |
|---|---|
DIFFERENT

Honoured: HONOURED.
"""


def page() -> str:
    """The whole page."""
    typed = [_row(name) for name in annotations.OPTIONS if name not in annotations.FLAGS_ONLY]
    free = "\n".join(f"- `--{name}`: {OPTIONS[name][0]}" for name in sorted(annotations.FLAGS_ONLY))
    written = [f"| `{key}` | {text} |" for key, text in WRITTEN.items()]
    tail = _filled(
        _TAIL,
        FREE=free,
        ALIASES="\n".join(
            [
                *(f"| `{key}` | `{names.FLAGS_ANNOTATION}` | |" for key in aliases.FLAG_ALIASES),
                *(_alias(key, alias) for key, alias in aliases.ALIASES.items()),
            ]
        ),
        REFUSED=" and ".join(f"`{key}`" for key in aliases.REFUSED),
        FOREIGN=_table(aliases.FOREIGN),
    )
    fields = _filled(
        _FIELDS,
        REFUSALS=_rules(podfields.REFUSALS),
        WARNINGS=_rules(podfields.WARNINGS),
        HARMLESS=_table(podfields.HARMLESS),
        DIFFERENT=_table({field: note for field, note in podfields.HONOURED.items() if note}),
        HONOURED=", ".join(f"`{field}`" for field, note in podfields.HONOURED.items() if not note),
    )
    return _HEAD + "\n".join(typed) + "\n" + tail + "\n".join(written) + "\n" + fields


def _filled(text: str, **parts: str) -> str:
    for name, part in parts.items():
        text = text.replace(f"\n{name}\n", f"\n{part}\n").replace(f" {name}.", f" {part}.")
    return text


def _table(rows: Mapping[str, str]) -> str:
    return "\n".join(f"| `{key}` | {text} |".replace("|  |", "| |") for key, text in rows.items())


def _rules(rules: tuple[podfields.Rule, ...]) -> str:
    return "\n".join(f"| {_fields(rule.fields)} | {rule.says} |" for rule in rules)


def _fields(fields: tuple[str, ...]) -> str:
    return ", ".join(f"`{field.replace('=', ': ')}`" for field in fields)


def _alias(key: str, alias: aliases.Alias) -> str:
    value, becomes = alias.example
    means = "nothing" if becomes is None else f'`"{becomes}"`'
    return f'| `{key}` | `{names.PREFIX}{alias.option}` | `"{value}"` → {means} |'


def _row(name: str) -> str:
    meaning, examples = OPTIONS[name]
    shown = ", ".join(f'`"{text}"`' for text in examples)
    return f"| `{names.PREFIX}{name}` | {meaning} | {shown} |"


def main() -> int:
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
