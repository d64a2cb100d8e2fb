"""The image that every node boots: a debootstrapped base and one layer of packages on it."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slurmlab.cache import Entry, cache_dir, cached, digest, locked
from slurmlab.errors import LabError
from slurmlab.mirror import apt_options, debian_mirror
from slurmlab.names import LAB_SOURCE, USERS
from slurmlab.process import run, run_logged

SUITES = ("trixie", "sid")
RECIPE = LAB_SOURCE / "image"

BUILD_SECONDS = 1500.0
"""The slowest step measured is 173 s on two cores; a mirror may be ten times slower."""

NSPAWN_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    # /proc/sys/net is of the node's own network namespace: nodes forward packets of pods.
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
    "SYSTEMD_SECCOMP": "0",
}

_MOUNT_AND_EXEC = """
mount -t overlay overlay -o "$1" "$2"
shift 2
exec "$@"
"""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Image:
    """Directories for overlayfs, the top one first, and the versions of what they hold."""

    key: str
    layers: tuple[Path, ...]
    versions: str

    @property
    def python(self) -> str:
        """The nodes' Python, such as 3.13."""
        full = dict(line.split() for line in self.versions.splitlines())["python3"]
        return ".".join(full.split(".")[:2])


def overlay_options(*, lower: Sequence[Path], upper: Path, work: Path) -> str:
    """Return mount options; `volatile` because nothing in a lab must survive a power cut."""
    lowers = ":".join(str(path) for path in lower)
    return f"lowerdir={lowers},upperdir={upper},workdir={work},volatile,redirect_dir=off"


def run_in_layer(
    argv: Sequence[str | Path],
    *,
    lower: Sequence[Path],
    upper: Path,
    log: Path,
    suite: str,
    read: Mapping[str, Path],
    write: Mapping[str, Path] | None = None,
    online: bool = True,
) -> None:
    """Run a command in a throw-away container over `lower`; what it writes lands in `upper`.

    `read` and `write` are directories and files of the host to show at paths inside; below /run
    they leave no mount point in `upper`. The overlay exists only in the command's own mount
    namespace, so a crash leaves no mount behind. apt's lists and archives are shared by all builds
    of a suite, one at a time. Raises LabError when the command fails.
    """
    scratch = upper.parent / f"{upper.name}.scratch"
    root, work = scratch / "root", scratch / "work"
    root.mkdir(parents=True)
    work.mkdir()
    apt = cache_dir() / "apt" / suite
    for name in ("lists", "archives"):
        (apt / name / "partial").mkdir(parents=True, exist_ok=True)
    writable = {
        "/var/lib/apt/lists": apt / "lists",
        "/var/cache/apt/archives": apt / "archives",
        **(write or {}),
    }
    network = ["--bind-ro=/etc/hosts"] if online else ["--private-network"]
    nspawn = [
        "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--console=pipe", "--as-pid2",
        f"--resolv-conf={'bind-host' if online else 'off'}", "--timezone=off",
        f"--machine=build-{os.getpid()}", "-D", str(root), *network,
        *(f"--bind-ro={path}:{inside}" for inside, path in read.items()),
        *(f"--bind={path}:{inside}" for inside, path in writable.items()),
        "--", *(str(word) for word in argv),
    ]  # fmt: skip
    options = overlay_options(lower=lower, upper=upper, work=work)
    mount = ["unshare", "--mount", "--propagation=private", "sh", "-euc", _MOUNT_AND_EXEC, "sh"]
    try:
        with locked(cache_dir() / "locks" / f"apt-{suite}"):
            status = run_logged(
                [*mount, options, root, *nspawn], log=log, timeout=BUILD_SECONDS, env=NSPAWN_ENV
            )
    finally:
        run(["rm", "-rf", scratch])
    if status != 0:
        raise LabError(_why(log))


def _why(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    named = [line.partition("lab-error: ")[2] for line in lines if "lab-error: " in line]
    noise = "Attempted to remove disk file system"  # nspawn, where /run is not a tmpfs
    said = named or [line for line in lines if line.strip() and noise not in line][-8:]
    return f"building failed: {' | '.join(said)} (log: {log})"


def fresh_log(name: str) -> Path:
    """Return an empty log file for a build."""
    log = cache_dir() / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    return log


def base(suite: str, *, say: Say) -> Entry:
    """Return the debootstrapped base of a Debian suite."""
    name = f"base-{suite}-{digest(RECIPE / 'base.sh', suite)}"

    def build(tree: Path) -> dict[str, object]:
        mirror = debian_mirror()
        log = fresh_log(name)
        say(f"image: debootstrap {suite} (about a minute; log: {log})")
        options = ["--variant=minbase", "--include=ca-certificates"]
        argv = ["debootstrap", *options, suite, str(tree), mirror]
        if run_logged(argv, log=log, timeout=BUILD_SECONDS) != 0:
            raise LabError(_why(log))
        (tree / "etc/apt/apt.conf.d/90host").write_text(apt_options())
        (tree / "etc/apt/sources.list").unlink(missing_ok=True)
        (tree / "etc/apt/sources.list.d/debian.sources").write_text(_sources(mirror, suite))
        for fetched in ("var/cache/apt/archives", "var/lib/apt/lists"):
            run(["find", tree / fetched, "-type", "f", "-delete"])
        run(["cp", RECIPE / "base.sh", tree / "base.sh"])
        run(["chroot", tree, "sh", "/base.sh"])
        (tree / "base.sh").unlink()
        return {"suite": suite}

    return cached(name, build=build, gib=2, say=say, watched=("var/lib/dpkg/status",))


def _sources(mirror: str, suite: str) -> str:
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    return f"Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nSigned-By: {keyring}\n"


def node_image(suite: str, *, say: Say) -> Image:
    """Return the image of the nodes with the Slurm release of `suite`."""
    if suite not in SUITES:
        raise LabError(f"Slurm release {suite!r}: the lab knows {', '.join(SUITES)}")
    lower = base(suite, say=say)
    people = "".join(f"{user.name} {user.uid} {user.first_subid}\n" for user in USERS)
    key = digest(lower.path.name, RECIPE / "packages.txt", RECIPE / "build.sh", people)
    name = f"node-{suite}-{key}"

    def build(tree: Path) -> dict[str, object]:
        log = fresh_log(name)
        say(f"image: installing packages (a few minutes; log: {log})")
        apt = tree / "etc/apt"
        (apt / "preferences.d").mkdir(parents=True)
        if suite != "sid":
            # Apptainer left trixie before its release; sid's package installs there unchanged.
            (apt / "sources.list.d").mkdir()
            (apt / "sources.list.d/sid.sources").write_text(_sources(debian_mirror(), "sid"))
            (apt / "preferences.d/sid").write_text(
                "Package: *\nPin: release n=sid\nPin-Priority: 100\n"
            )
        (tree.parent / "people").write_text(people)
        run_in_layer(
            ["sh", "/run/recipe/build.sh", "/run/recipe/packages.txt", "/run/people"],
            lower=[lower.tree],
            upper=tree,
            log=log,
            suite=suite,
            read={"/run/recipe": RECIPE, "/run/people": tree.parent / "people"},
        )
        return {"suite": suite, "versions": _versions(log)}

    entry = cached(name, build=build, gib=4, say=say, watched=("var/lib/dpkg/status",))
    versions = str(entry.stamp()["versions"])
    return Image(key=name, layers=(entry.tree, lower.tree), versions=versions)


def headers(key: str) -> Path:
    """The directory with slurm/spank.h of the release that an image's nodes run."""
    return cache_dir() / key / "tree" / "usr" / "include"


def _versions(log: Path) -> str:
    """Return the `package version` lines that build.sh prints last."""
    lines = log.read_text(errors="replace").splitlines()
    start = max(i for i, line in enumerate(lines) if line.startswith("apptainer "))
    return "\n".join(line.strip() for line in lines[start:] if len(line.split()) == 2)


if __name__ == "__main__":
    built = node_image(sys.argv[1] if len(sys.argv) > 1 else SUITES[0], say=print)
    print(built.key, built.versions, sep="\n")
