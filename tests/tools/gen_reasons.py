"""Writes docs/reasons.md from what pods say of jobs that wait: `gen_reasons.py`, in the venv."""

import sys
from collections.abc import Mapping
from pathlib import Path

from slurmlet.kubelet.slurm.reasons import family
from slurmlet.kubelet.slurm.reasontable import LIMITS, SENTENCES, TABLE, Reason

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reasons.md"
NAMES: Mapping[str, tuple[str, ...]] = {
    path.stem.removeprefix("reasons-"): tuple(path.read_text().split())
    for path in sorted((ROOT / "tests" / "unit" / "kubelet").glob("reasons-*.txt"))
}
"""Slurm's words by release."""

_PAGE = """\
<!-- Made by tests/tools/gen_reasons.py; change that. -->

# Why does my job wait

While the job of a pod waits, the pod says why: `kubectl get pods` has `SlurmPending` in the column
STATUS, and `kubectl describe pod` shows a message at each container. It begins with Slurm's own
word, as `squeue` prints it, goes on with what that means and ends with what happens then:

```
Slurm job 17 waits: QOSMaxJobsPerUserLimit: you have as many jobs running as QOS normal allows; it
starts when one of yours ends. Slurm expects it to start at 2026-11-26T10:00:00Z
```

The last sentence is there when Slurm has an estimate. That counts with the time limits of the jobs
that run, most of which end sooner. The pod follows it when it has moved by five minutes, or by a
tenth of what is left to wait.

For what no waiting helps, the pod also gets one Warning event `SlurmPending` with what to do. Where
Slurm goes back and forth between two reasons, the pod follows at first and then every five minutes.

Below are all words of Slurm RELEASES. Those that only one of them has are marked, and what is not
here is shown as it is.

## What passes by itself

| Slurm says | it means | then |
|---|---|---|
PASSING

## What needs you, or the administrator

| Slurm says | it means | what to do |
|---|---|---|
LASTING

## Limits of accounts and QOS

The word says whose limit it is, what is limited and for whom. `Assoc` is your account, yourself in
it or an account above it; all others are limits of the job's QOS, or of its partition's. WHAT is
what the word names: CPUs, memory, nodes, licences, GPUs or other generic resources (`GRES`),
burst buffer (`BB`), energy, billing units (`Billing`, the weighted sum of the others).

| Slurm says | it means | then |
|---|---|---|
FAMILIES

## Sentences

For some reasons Slurm says a sentence instead of a word; it is shown, too.

| Slurm says | it means | then |
|---|---|---|
SENTENCES
"""


def page() -> str:
    """The whole page."""
    return _filled(
        RELEASES=" and ".join(NAMES),
        PASSING=_table({word: row for word, row in TABLE.items() if not row.lasting}),
        LASTING=_table({word: row for word, row in TABLE.items() if row.lasting}),
        FAMILIES="\n".join(map(_family, LIMITS)),
        SENTENCES=_table(SENTENCES),
    )


def _filled(**parts: str) -> str:
    text = _PAGE
    for name, part in parts.items():
        text = text.replace(f"\n{name}\n", f"\n{part}\n").replace(f" {name}.", f" {part}.")
    return text


def _table(rows: Mapping[str, Reason]) -> str:
    return "\n".join(
        f"| `{said}`{_only(said)} | {_plain(row.means)} | {row.then} |"
        for said, row in rows.items()
    )


def _family(shape: str) -> str:
    row = LIMITS[shape]
    every = {word for words in NAMES.values() for word in words}
    words = sorted(word for word in every if family(word) == shape)
    of_accounts = any(word.startswith("Assoc") for word in words)
    whose = "your account or its QOS" if of_accounts else "its QOS"
    means = row.means.replace("{what}", "WHAT").replace("{whose}", whose)
    return f"| {', '.join(f'`{word}`' for word in words)} | {means} | {row.then} |"


def _only(word: str) -> str:
    having = [release for release, words in NAMES.items() if word in words]
    return f" ({having[0]})" if len(having) == 1 else ""


def _plain(means: str) -> str:
    return means.format(qos="its QOS", partition="its partition")


def main() -> int:
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
