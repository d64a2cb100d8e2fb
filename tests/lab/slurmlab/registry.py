"""The registry's storage, filled with the test images and cached by content.

Each entry is an overlay layer with /var/lib/docker-registry in it, mounted below ctl's own files:
the lab starts with a full registry, and what is pushed to it later is gone with the lab.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from slurmlab.cache import cached, digest
from slurmlab.image import Image, base, fresh_log, run_in_layer
from slurmlab.images import SOURCE, Recipe, build_layers, publish_script, recipes
from slurmlab.names import LAB_SOURCE
from slurmlab.process import run

SUITE = "trixie"
"""Container images do not follow the nodes' Slurm release."""

STORAGE = "var/lib/docker-registry"


def storage(image: Image, *, say: Callable[[str], None]) -> tuple[Path, ...]:
    """Return the overlay layers, the top one first. The nodes' image has the tools to make them."""
    wanted = recipes((SOURCE / "images.toml").read_text())
    return (_filled("registry", wanted, image=image, say=say),)


def _filled(
    title: str,
    wanted: Sequence[Recipe],
    *,
    image: Image,
    say: Callable[[str], None],
    read: Mapping[str, Path] | None = None,
    extra_key: str = "",
) -> Path:
    lower = base(SUITE, say=say).tree
    config = LAB_SOURCE / "site/control/etc/docker/registry/config.yml"
    files = [SOURCE / recipe.script for recipe in wanted]
    files += [SOURCE / name for name in ("closure.sh", "pause.c", "nginx.conf")] + [config]
    code = publish_script(wanted)
    name = f"{title}-{digest(lower.parent.name, code, *files, extra_key)}"

    def build(tree: Path) -> dict[str, object]:
        log = fresh_log(name)
        names = ", ".join(recipe.name for recipe in wanted)
        say(f"registry: building {names} (about a minute; log: {log})")
        scratch = tree.parent / "scratch"
        scratch.mkdir()
        layers = build_layers(
            wanted, base=lower, scratch=scratch, log=log, suite=SUITE, read=read or {}
        )
        (scratch / "publish.sh").write_text(code)
        (tree / STORAGE).mkdir(parents=True)
        upper = scratch / "publish"
        upper.mkdir()
        run_in_layer(
            ["sh", "/run/publish.sh"],
            lower=image.layers,
            upper=upper,
            log=log,
            suite=SUITE,
            read={
                "/run/publish.sh": scratch / "publish.sh",
                "/run/registry.yml": config,
                **{f"/run/layers/{each}": layers[each] for each in layers},
            },
            write={f"/{STORAGE}": tree / STORAGE},
            online=False,
        )
        owner = (image.layers[0] / STORAGE).stat()
        run(["chown", "-R", f"{owner.st_uid}:{owner.st_gid}", tree / STORAGE])
        run(["rm", "-rf", scratch])
        return {"names": [each for recipe in wanted for each in recipe.names]}

    return cached(name, build=build, gib=4, say=say).tree
