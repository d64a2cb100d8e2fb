"""Makes a release, a virtual environment of its own, from a tar of wheels. Runs on the node.

usage: install_release.py TAR RELEASE

A release is whole when it has the file .complete; what an interrupted run left is made anew. The
newest other release stays, to go back to; older ones are removed.
"""

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

SECONDS = 300
# Compiling all of the Kubernetes client takes 10 s; what is used of it is compiled when imported.
COMPILE_WHEN_USED = "kubernetes"
WARM = "import importlib.util as u; u.find_spec('kubernetes') and __import__('slurmlet.common.kube')"


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
        *("-x", re.escape(f"/{COMPILE_WHEN_USED}/"), release / "lib"),
    )
    run(python, "-c", WARM)


def stale(release: Path) -> list[Path]:
    """All whole releases but this one, the current one and the newest of the others."""
    current = Path("/opt/slurmlet/current").resolve()
    others = [
        path
        for path in release.parent.iterdir()
        if path.is_dir() and path not in (release, current)
    ]
    kept = 0 if current.is_dir() and current != release else 1
    return sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[kept:]


def run(*argv: object) -> None:
    command = [str(word) for word in argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command[:4])} failed: {(done.stderr or done.stdout).strip()[-2000:]}")


if __name__ == "__main__":
    main()
