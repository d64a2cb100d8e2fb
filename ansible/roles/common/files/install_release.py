"""Makes a release, a virtual environment of its own, from a tar of wheels. Runs on the node.

usage: install_release.py TAR RELEASE

A release is whole when it has the file .complete; what an interrupted run left is made anew. The
release that was current stays, to go back to; older ones are removed.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

CURRENT = Path("/opt/slurmlet/current")
SECONDS = 300
# Users cannot write bytecode there. Importing compiles what we use of others: a fourth of all that
# is installed, of the Kubernetes client a tenth. A module may belong to an extra of other nodes.
COMPILE = """
import compileall, contextlib, importlib, pkgutil, slurmlet
for path in slurmlet.__path__:
    compileall.compile_dir(path, quiet=1)
for module in pkgutil.walk_packages(slurmlet.__path__, "slurmlet."):
    if not module.name.endswith(".__main__"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)
"""


def main() -> None:
    os.umask(0o022)
    bundle, release = Path(sys.argv[1]), Path(sys.argv[2])
    wheels = release.with_name(f"{release.name}.wheels")
    for leftover in (release, *release.parent.glob("*.wheels")):
        shutil.rmtree(leftover, ignore_errors=True)
    with tarfile.open(bundle) as tar:
        tar.extractall(wheels, filter="data")
    make(wheels, release)
    (release / ".complete").touch()
    shutil.rmtree(wheels)
    for used in release.parent.glob("*.tar"):
        used.unlink()
    for path in stale(release):
        shutil.rmtree(path)


def make(wheels: Path, release: Path) -> None:
    python = release / "bin" / "python"
    # Debian's Python comes without ensurepip; a wheel of pip runs as it is.
    run(sys.executable, "-m", "venv", "--without-pip", release)
    pip = next(wheels.glob("pip-*.whl")) / "pip"
    run(
        *(sys.executable, pip, "--python", python, "install", "--quiet", "--no-index"),
        *("--find-links", wheels, "--require-hashes", "--no-deps", "--no-compile"),
        *("--disable-pip-version-check", "--root-user-action=ignore"),
        *("--requirement", wheels / "requirements.txt"),
    )
    run(python, "-c", COMPILE)


def stale(release: Path, *, current: Path = CURRENT) -> list[Path]:
    """All releases but this one and the one to go back to: the current, else the newest other."""
    others = [path for path in release.parent.iterdir() if path.is_dir() and path != release]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    back = current.resolve() if current.resolve() in others else next(iter(others), None)
    return [path for path in others if path != back]


def run(*argv: object) -> None:
    command = [str(word) for word in argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command[:4])} failed: {(done.stderr or done.stdout).strip()[-2000:]}")


if __name__ == "__main__":
    main()
