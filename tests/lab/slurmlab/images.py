"""The container images: built from Debian packages as recipes in tests/lab/images say."""

import os
import shlex
import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slurmlab.errors import LabError
from slurmlab.image import run_in_layer
from slurmlab.names import LAB_SOURCE
from slurmlab.process import run

SOURCE = LAB_SOURCE / "images"
DEBIAN = "debian"
PATH_ENV = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One container image; the fields are explained in images.toml."""

    name: str
    script: str
    over: str
    keeps: Literal["changes", "out"]
    names: tuple[str, ...]
    parent: str = ""
    program: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    workdir: str = "/"
    user: str = ""


def recipes(text: str) -> tuple[Recipe, ...]:
    """Parse images.toml; raises LabError for a recipe that cannot be built."""
    found: list[Recipe] = []
    for name, table in tomllib.loads(text).items():
        values: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in table.items()
        }
        try:
            recipe = Recipe(name=name, **values)
        except TypeError as error:
            raise LabError(f"images.toml, [{name}]: {error}") from None
        known = {DEBIAN, *(each.name for each in found)}
        for field, value in (("over", recipe.over), ("parent", recipe.parent or DEBIAN)):
            if value not in known:
                raise LabError(f"images.toml, [{name}]: {field} = {value!r} is not built before it")
        found.append(recipe)
    return tuple(found)


def build_layers(
    wanted: Sequence[Recipe],
    *,
    base: Path,
    scratch: Path,
    log: Path,
    suite: str,
    read: Mapping[str, Path],
) -> dict[str, Path]:
    """Run the recipes' scripts; return the directory that is each image's own layer.

    The directories lie in `scratch` and are in the form of an OCI layer.
    """
    layers: dict[str, Path] = {DEBIAN: base}
    roots: dict[str, tuple[Path, ...]] = {DEBIAN: (base,)}
    for recipe in wanted:
        changes, out = scratch / f"{recipe.name}.changes", scratch / f"{recipe.name}.out"
        changes.mkdir()
        out.mkdir()
        run_in_layer(
            ["env", "DEBIAN_FRONTEND=noninteractive", "sh", f"/run/images/{recipe.script}"],
            lower=roots[recipe.over],
            upper=changes,
            log=log,
            suite=suite,
            read={"/run/images": SOURCE, **read},
            write={"/run/out": out},
        )
        roots[recipe.name] = (changes, *roots[recipe.over])
        layers[recipe.name] = changes if recipe.keeps == "changes" else out
    for recipe in wanted:
        if recipe.keeps == "changes":
            layers[recipe.name] = oci_layer(
                layers[recipe.name], copy=scratch / f"{recipe.name}.layer"
            )
    return layers


def oci_layer(changes: Path, *, copy: Path) -> Path:
    """Copy an overlayfs upper directory (by hard links), its deletions written as OCI writes them.

    overlayfs marks a deleted file by a character device 0:0 of its name, an emptied directory by
    an attribute; an OCI layer has `.wh.NAME` and `.wh..wh..opq`.
    """
    run(["cp", "-al", changes, copy])
    for noise in ("var/log", "var/cache"):
        run(["rm", "-rf", copy / noise])
    for directory, _, names in os.walk(copy):
        here = Path(directory)
        for name in names:
            seen = (here / name).lstat()
            if stat.S_ISCHR(seen.st_mode) and seen.st_rdev == 0:
                (here / name).unlink()
                (here / f".wh.{name}").touch()
        if _opaque(here):
            (here / ".wh..wh..opq").touch()
    return copy


def _opaque(directory: Path) -> bool:
    try:
        return os.getxattr(directory, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def publish_script(wanted: Sequence[Recipe]) -> str:
    """Return the shell script that turns layers (/run/layers/NAME) into images and pushes them.

    It runs without a network beside its own loopback: the registry listens there.
    """
    lines = ["set -eu", "umoci init --layout /oci"]
    # Devices are the container's to make; an unprivileged user cannot unpack them.
    lines += _image(DEBIAN, exclude=("./dev/*",))
    for recipe in wanted:
        lines += _image(recipe.name, parent=recipe.parent)
        lines.append(shlex.join(_config(recipe)))
    lines += [
        "ip link set lo up",
        "docker-registry serve /run/registry.yml & registry=$!",
        "ready() { curl -sf http://127.0.0.1:5000/v2/ >/dev/null; }",
        "for _ in $(seq 100); do ready && break; sleep .1; done",
    ]
    for recipe in wanted:
        for name in recipe.names:
            lines.append(
                "skopeo copy --quiet --dest-tls-verify=false "
                + shlex.join([f"oci:/oci:{recipe.name}", f"docker://127.0.0.1:5000/{name}"])
            )
    lines.append('kill "$registry"; wait "$registry" || true')
    return "\n".join(lines) + "\n"


def _image(name: str, *, parent: str = "", exclude: Sequence[str] = ()) -> list[str]:
    excluded = [f"--exclude={pattern}" for pattern in exclude]
    archive = f"/tmp/{name}.tar"
    pack = ["tar", "--sort=name", "--numeric-owner", *excluded, "-C", f"/run/layers/{name}"]
    start = ["new", "--image", f"/oci:{name}"]
    if parent:
        start = ["tag", "--image", f"/oci:{parent}", name]
    add = ["umoci", "raw", "add-layer", "--image", f"/oci:{name}", archive]
    steps = ([*pack, "-cf", archive, "."], ["umoci", *start], add, ["rm", archive])
    return [shlex.join(words) for words in steps]


def _config(recipe: Recipe) -> list[str]:
    words = ["umoci", "config", "--image", f"/oci:{recipe.name}", "--os=linux"]
    words += ["--clear=config.entrypoint", "--clear=config.cmd", "--clear=config.env"]
    repeated: Mapping[str, Sequence[str]] = {
        "entrypoint": recipe.entrypoint,
        "cmd": recipe.cmd,
        "env": (PATH_ENV, *recipe.env),
        "exposedports": recipe.ports,
    }
    for key, values in repeated.items():
        for value in values:
            words += [f"--config.{key}", value]
    words += ["--config.workingdir", recipe.workdir]
    if recipe.user:
        words += ["--config.user", recipe.user]
    return words
