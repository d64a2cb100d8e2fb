"""Gives each mapped user the kubeconfig that was made for them. Runs on the control host as root.

usage: give_kubeconfigs.py NAMESPACES check|write

NAMESPACES is the identity map as JSON. Prints the path of each file that was (or would be) written.
Files in a home directory are read and written by a child with the user's own rights, so that root
never follows a path that the user can change, and homes that squash root work. A ~/.kube/config
that we did not write is left alone; ours is then ~/.kube/slurmlet.conf.
"""

import json
import os
import pwd
import signal
import stat
import sys
import traceback
from pathlib import Path
from typing import Any

SOURCE = Path("/etc/slurmlet/pki/users")
CLUSTER = "slurmlet"
MAX_BYTES = 1024 * 1024
SECONDS = 20
"""For one user: a home directory on a file server that hangs must not hang the roll-out."""


def main() -> None:
    namespaces, write = json.loads(sys.argv[1]), sys.argv[2] == "write"
    failed = False
    for user, namespace in default_namespaces(namespaces).items():
        source = SOURCE / f"{user}.conf"
        if not source.exists() and not write:
            print(f"~{user}/.kube/config")
            continue
        text = with_namespace(source.read_text(encoding="utf-8"), namespace)
        if as_user(pwd.getpwnam(user), text, write=write) != 0:
            print(f"no kubeconfig for {user}: see above", file=sys.stderr)
            failed = True
    sys.exit(1 if failed else 0)


def default_namespaces(namespaces: dict[str, dict[str, Any]]) -> dict[str, str | None]:
    """User → the namespace that kubectl uses when none is said: the user's first."""
    found: dict[str, str | None] = {}
    for namespace, identity in sorted(namespaces.items()):
        named = None if set("*?") & set(namespace) else namespace
        found[identity["user"]] = found.get(identity["user"]) or named
    return found


def with_namespace(kubeconfig: str, namespace: str | None) -> str:
    document = json.loads(kubeconfig)
    if namespace:
        for context in document["contexts"]:
            context["context"]["namespace"] = namespace
    return json.dumps(document, indent=2) + "\n"


def is_ours(content: bytes) -> bool:
    """Whether the file is as we write it; what kubectl rewrites is YAML, and the user's own."""
    try:
        document = json.loads(content)
        return [cluster["name"] for cluster in document["clusters"]] == [CLUSTER]
    except (ValueError, KeyError, TypeError):
        return False


def as_user(account: pwd.struct_passwd, text: str, *, write: bool) -> int:
    """Runs `give` in a child with the user's rights; its exit code."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(SECONDS)
            os.initgroups(account.pw_name, account.pw_gid)
            os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
            os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
            os.umask(0o077)
            give(Path(account.pw_dir) / ".kube", text.encode(), write=write)
            sys.stdout.flush()
            code = 0
        except OSError as error:
            print(f"{error.filename}: {error.strerror}", file=sys.stderr, flush=True)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def give(directory: Path, content: bytes, *, write: bool) -> None:
    path = directory / "config"
    current = read(path)
    if current is not None and not is_ours(current):
        path = directory / f"{CLUSTER}.conf"
        current = read(path)
    if current == content:
        return
    print(path)
    if not write:
        return
    directory.mkdir(mode=0o700, exist_ok=True)
    partial = path.with_name(f".{path.name}.new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    partial.replace(path)


def read(path: Path) -> bytes | None:
    """Content of a regular file; opening must not hang on a FIFO."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        return file.read(MAX_BYTES)


if __name__ == "__main__":
    main()
