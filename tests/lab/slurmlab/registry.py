"""The registry's storage, filled with the test images and cached by content.

Each entry is an overlay layer with /var/lib/docker-registry in it, mounted below ctl's own files:
the lab starts with a full registry, and what is pushed to it later is gone with the lab.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from slurmlab.cache import cached, digest
from slurmlab.image import Image, base, fresh_log, run_in_layer
from slurmlab.images import SOURCE, Recipe, build_layers, publish_script, recipes
from slurmlab.names import LAB_SOURCE, SOURCE_ROOT
from slurmlab.process import run

SUITE = "trixie"
"""Container images do not follow the nodes' Slurm release."""

STORAGE = "var/lib/docker-registry"


BUILD_SECONDS = 1800.0
"""agnhost is built from Go: three minutes on two cores when nothing is cached."""


def storage(image: Image, *, say: Callable[[str], None]) -> tuple[Path, ...]:
    """Return the overlay layers, the top one first. The nodes' image has the tools to make them."""
    wanted = recipes((SOURCE / "images.toml").read_text())
    plain = [recipe for recipe in wanted if not recipe.program]
    layers = [_filled("registry", plain, image=image, say=say)]
    for recipe in wanted:
        if recipe.program:
            layers += _with_program(recipe, wanted, image=image, say=say)
    return tuple(layers)


def _with_program(
    recipe: Recipe, wanted: Sequence[Recipe], *, image: Image, say: Callable[[str], None]
) -> list[Path]:
    """Return the entry of an image with a program of ours, which is built only for a new entry."""
    modules = SOURCE_ROOT / "controlplane" / "go" / "kubernetes"
    builder = SOURCE_ROOT / ".venv" / "bin" / "slurmlet-controlplane"
    parents = [replace(each, names=()) for each in wanted if each.name == recipe.parent]

    def programs() -> Path:
        say(f"registry: building the program {recipe.program} (minutes, if nothing is cached)")
        printed = run([builder, "build", recipe.program], timeout=BUILD_SECONDS).stdout
        return Path(printed.strip().splitlines()[-1])

    if not builder.exists():
        say(f"registry: no image {recipe.name}: its program needs `make dev`")
        return []
    return [
        _filled(
            recipe.name,
            [*parents, recipe],
            image=image,
            say=say,
            programs=programs,
            extra_key=digest(modules / "go.mod", modules / "go.sum"),
        )
    ]


def _filled(
    title: str,
    wanted: Sequence[Recipe],
    *,
    image: Image,
    say: Callable[[str], None],
    programs: Callable[[], Path] | None = None,
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
        read = {} if programs is None else {"/run/programs": programs()}
        scratch = tree.parent / "scratch"
        scratch.mkdir()
        layers = build_layers(wanted, base=lower, scratch=scratch, log=log, suite=SUITE, read=read)
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
        # A hundred thousand files; a disk that others keep busy takes its time.
        run(["rm", "-rf", scratch], timeout=BUILD_SECONDS)
        return {"names": [each for recipe in wanted for each in recipe.names]}

    return cached(name, build=build, gib=4, say=say).tree
