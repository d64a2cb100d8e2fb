"""Puts what is made of C into the wheel, and, for an editable install, into the tree."""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).resolve().parent))
import build


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        package = Path(self.root) / "spank" / "src" / "slurmlet" / "spank"
        work = Path(self.root) / "spank" / "build"
        work.mkdir(exist_ok=True)
        enter = build.enter(work / "slurmlet-enter")
        # `editable` installs link to the tree, which must therefore have it.
        core = build.core(package if version == "editable" else work)
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{build.platform_tag()}"
        build_data["shared_scripts"][str(enter)] = "slurmlet-enter"
        if version != "editable":
            build_data["force_include"][str(core)] = f"slurmlet/spank/{core.name}"
