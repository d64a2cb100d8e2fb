"""Prints what a node lacks, as JSON. Runs on the node, before anything is installed there.

usage: inspect_node.py JSON, the node's part: see Expected.
"""

import hashlib
import json
import platform
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DIRECTORIES = ("/opt/slurmlet/releases", "/etc/slurmlet/pki")
MIN_UID = 1000
MIN_SLURM = (23, 11)
SLURM_COMMANDS = ("sbatch", "scancel", "squeue", "sacct", "sinfo", "scontrol")
COMPUTE_COMMANDS = {
    "skopeo": "pods' images are pulled with it",
    "umoci": "pods' images are unpacked with it",
    "unshare": "pods' namespaces are made with it",
}
SUBID_FILES = (Path("/etc/subuid"), Path("/etc/subgid"))
SECONDS = 10


def main() -> None:
    expected = json.loads(sys.argv[1])
    problems = interpreter_problems(expected, (*sys.version_info[:2],), platform.machine())
    if not Path("/run/systemd/system").is_dir():
        problems.append("systemd is not running: slurmlet's services are systemd units")
    problems += user_problems(expected, known_users())
    warnings: list[str] = []
    if expected["control"]:
        missing = [name for name in SLURM_COMMANDS if not shutil.which(name)]
        problems += [f"{name} is not in PATH: install Slurm's client commands" for name in missing]
        if not missing:
            problems += slurm_problems(run("sbatch", "--version"))
            warnings += accounting_warnings(run("scontrol", "show", "config"))
    if expected["compute"]:
        problems += engine_problems(expected["engines"], shutil.which)
        if shutil.which("getsubids"):
            warnings += subid_warnings(
                [name for name in expected["users"] if not run("getsubids", name)]
            )
    config = run("scontrol", "show", "config")
    release = Path(expected["release"])
    result = {
        "problems": problems,
        "warnings": warnings,
        "missing": [path for path in DIRECTORIES if not Path(path).is_dir()],
        "hostname": platform.node(),
        "installed": (release / ".complete").exists(),
        "controlplane": Path("/etc/slurmlet/pki/admin.conf").exists(),
        "slurm": slurm_release(run("srun", "--version")),
        "sandbox_problems": sandbox_problems(config),
        "spool_dir": setting(config, "SlurmdSpoolDir") or "/var/spool/slurmd",
        "subids": subid_digest(SUBID_FILES),
        "current": Path("/opt/slurmlet/current/.complete").exists(),
    }
    print(json.dumps(result))


def interpreter_problems(
    expected: dict[str, Any], version: tuple[int, ...], machine: str
) -> list[str]:
    """What keeps the wheels of the wheelhouse from running here."""
    problems = []
    found = ".".join(str(part) for part in version)
    if found != expected["python"]:
        problems.append(
            f"{sys.executable} is Python {found}, the wheelhouse is for {expected['python']}: make"
            f" one with tools/wheelhouse --python {found}, or set slurmlet_python"
        )
    if machine != expected["machine"]:
        problems.append(
            f"this is {machine}, the wheelhouse is for {expected['machine']}: make one with"
            f" tools/wheelhouse --machine {machine}"
        )
    return problems


def known_users() -> dict[str, int]:
    """Looks up by name when asked, because a directory service may not list its users."""

    class Users(dict[str, int]):
        def __missing__(self, name: str) -> int:
            try:
                return pwd.getpwnam(name).pw_uid
            except KeyError:
                return -1

    return Users()


def user_problems(expected: dict[str, Any], uids: dict[str, int]) -> list[str]:
    """The service user must exist, and mapped users must exist and be people."""
    problems = []
    service = expected["service_user"]
    if expected["control"] and uids[service] < 0:
        problems.append(
            f"slurmlet_user: there is no user {service!r}: create it as a system user, with the"
            " same uid on all nodes"
        )
    for name in expected["users"]:
        uid = uids[name]
        if uid < 0:
            problems.append(f"slurmlet_namespaces: there is no user {name!r} on this node")
        elif uid < MIN_UID:
            problems.append(f"slurmlet_namespaces: {name!r} has uid {uid}, below {MIN_UID}")
    return problems


def engine_problems(engines: list[str], which: Callable[[str], str | None]) -> list[str]:
    """What the supervisors of pods would miss."""
    problems = [
        f"container engine {name} is not in PATH: install it, or name others in slurmlet_settings:"
        " supervisor.engines, supervisor.default_engine and kubelet.engines"
        for name in engines
        if not which(name)
    ]
    problems += [
        f"{name} is not in PATH: {why}" for name, why in COMPUTE_COMMANDS.items() if not which(name)
    ]
    return problems


def subid_warnings(users: list[str]) -> list[str]:
    return [
        f"{name} has no range in /etc/subuid: all files of an image will belong to one user"
        for name in users
    ]


def slurm_problems(version_line: str) -> list[str]:
    found = re.match(r"slurm\S* (\d+)\.(\d+)", version_line)
    if not found:
        return [f"sbatch --version says {version_line.strip()!r}: is Slurm installed?"]
    if (int(found[1]), int(found[2])) < MIN_SLURM:
        return [f"Slurm {found[1]}.{found[2]} is too old: slurmlet needs 23.11"]
    return []


def slurm_release(version_line: str) -> str:
    """24.11 of what srun --version says; empty if it is not understood."""
    found = re.match(r"slurm\S* (\d+\.\d+)", version_line)
    return found[1] if found else ""


def setting(config: str, name: str) -> str:
    """A value of what scontrol show config says; empty if it is not set."""
    found = re.search(rf"^{name}\s*= (.*)$", config, re.MULTILINE)
    value = found[1].strip() if found else ""
    return "" if value == "(null)" else value


def sandbox_problems(config: str) -> list[str]:
    """What in slurm.conf keeps prologs from making sandboxes; empty config: slurmctld is away."""
    if not config:
        return []
    problems = []
    flags = setting(config, "PrologFlags").lower().split(",")
    if not {"alloc", "contain"} & set(flags):
        problems.append(
            "PrologFlags in slurm.conf lacks Contain: a job would start before its sandbox"
        )
    if "runinjob" in flags:
        problems.append("PrologFlags in slurm.conf has RunInJob: prologs must not run in the job")
    for name in ("JobContainerType", "JobContainerPlugin", "NamespaceType"):
        if setting(config, name) not in ("", "(none)", "none", "job_container/none"):
            problems.append(f"{name} in slurm.conf is set: it hides the node's mounts from jobs")
    return problems


def subid_digest(files: Sequence[Path]) -> str:
    """As slurmlet-sandbox computes it, to know that all nodes have the same ranges."""
    total = hashlib.sha256()
    for file in files:
        if not file.exists():
            return ""
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def accounting_warnings(config: str) -> list[str]:
    """What slurm.conf's AccountingStoreFlags means for us; empty config: slurmctld is away."""
    if not config:
        return ["slurmctld does not answer: pods cannot run until it does"]
    found = re.search(r"^AccountingStoreFlags\s*=\s*(.*)$", config, re.MULTILINE)
    flags = found[1].lower().split(",") if found else []
    warnings = []
    if "job_comment" not in flags:
        warnings.append(
            "AccountingStoreFlags in slurm.conf has no job_comment: sacct will not say which pod"
            " a job was, beyond its name"
        )
    if "job_env" in flags:
        warnings.append(
            "AccountingStoreFlags in slurm.conf has job_env: it stores the token of each pod's"
            " job in the accounting database"
        )
    return warnings


def run(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout if done.returncode == 0 else ""


if __name__ == "__main__":
    main()
