"""Makes a release, a virtual environment of its own, from a tar of wheels. Runs on the node.

usage: install_release.py TAR RELEASE

A release is whole when it has the file .complete; what an interrupted run left is made anew. The
release that was current stays, to go back to; older ones are removed.
"""

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

CURRENT = Path("/opt/slurmlet/current")
SECONDS = 300
# Compiling all of the Kubernetes client takes 10 s; importing what is used of it compiles that.
COMPILED_BY_USE = "kubernetes"


def main() -> None:
    bundle, release = Path(sys.argv[1]), Path(sys.argv[2])
    wheels = release.with_name(f"{release.name}.wheels")
    for leftover in (release, wheels):
        shutil.rmtree(leftover, ignore_errors=True)
    with tarfile.open(bundle) as tar:
        tar.extractall(wheels, filter="data")
    make(wheels, release)
    (release / ".complete").touch()
    shutil.rmtree(wheels)
    bundle.unlink()
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
    run(
        *(python, "-m", "compileall", "-q", "-j", "0"),
        *("-x", re.escape(f"/{COMPILED_BY_USE}/"), release / "lib"),
    )
    if any(wheels.glob(f"{COMPILED_BY_USE}-*.whl")):
        run(python, "-c", "import slurmlet.common.kube")


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
