"""Who writes objects to the API server: kubectl's commands and Helm, each as a field manager."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.tools import helm

Objects = Sequence[Mapping[str, Any]]

KUBECTL: Mapping[str, tuple[str, ...]] = {
    "create": ("create", "-f", "-"),
    "apply": ("apply", "-f", "-"),
    "server-side apply": ("apply", "--server-side", "-f", "-"),
    "replace": ("replace", "-f", "-"),
    "merge patch": ("patch", "--type=merge"),
}
HELM = ("helm 3", "helm 4")
MAKERS = (*KUBECTL, *HELM)
WRITERS = tuple(kind for kind in MAKERS if kind != "create")


class Writer(Protocol):
    """Writes the same objects as often as asked."""

    def make(self, objects: Objects) -> None:
        """Write objects of which none is there."""
        ...

    def write(self, objects: Objects) -> None:
        """Write objects that somebody made."""
        ...

    def remove(self) -> None:
        """Forget what this writer itself keeps."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """One of kubectl's commands as alice."""

    run: Callable[..., str]
    kind: str
    manager: str

    def make(self, objects: Objects) -> None:
        if self.kind in ("replace", "merge patch"):
            self._run(*KUBECTL["create"], of=objects)
        self.write(objects)

    def write(self, objects: Objects) -> None:
        if self.kind != "merge patch":
            self._run(*KUBECTL[self.kind], of=objects)
            return
        for item in objects:
            name = f"{item['kind'].lower()}/{item['metadata']['name']}"
            self._run(*KUBECTL[self.kind], name, f"-p={json.dumps(item)}")

    def remove(self) -> None:
        pass

    def _run(self, *arguments: str, of: Objects = ()) -> None:
        stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(of)})
        manager = f"--field-manager={self.manager}"
        self.run("alice", "-n", "alice", *arguments, manager, stdin=stdin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Helm:
    """A release of Helm; `kind` is its version, as in HELM."""

    kind: str
    kubeconfig: Path
    directory: Path
    release: str

    def make(self, objects: Objects) -> None:
        self._chart(objects)
        self._run("install", self.release, str(self.directory))

    def write(self, objects: Objects) -> None:
        self._chart(objects)
        self._run("upgrade", "--install", "--take-ownership", self.release, str(self.directory))

    def remove(self) -> None:
        self._run("uninstall", "--ignore-not-found", self.release)

    def _chart(self, objects: Objects) -> None:
        templates = self.directory / "templates"
        templates.mkdir(parents=True, exist_ok=True)
        chart = {"apiVersion": "v2", "name": self.release, "version": "0.1.0"}
        (self.directory / "Chart.yaml").write_text(json.dumps(chart))
        (templates / "all.yaml").write_text("\n---\n".join(map(json.dumps, objects)))

    def _run(self, *arguments: str) -> None:
        helm.run(
            self.kind,
            *arguments,
            kubeconfig=self.kubeconfig,
            namespace="alice",
            home=self.directory / ".helm",
        )
