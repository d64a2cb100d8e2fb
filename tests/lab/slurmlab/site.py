"""What the site's admin would have set up on a node before slurmlet comes: files and services.

Literal files lie in site/all and site/ROLE as they land on the node; here is what differs per lab
or per node (keys, host names, which services start).
"""

import json
import os
import secrets
from pathlib import Path

from slurmlab.names import CLUSTER, LAB_SOURCE, NODES, USERS, Lab, Node, Role
from slurmlab.process import run

SERVICES: dict[Role, tuple[str, ...]] = {
    "control": (
        "lab-vfs", "ssh", "munge", "mariadb", "slurmdbd", "lab-accounting", "slurmctld",
        "docker-registry",
    ),
    "compute": ("lab-vfs", "ssh", "munge", "slurmd"),
}  # fmt: skip

_OWNED = {
    "etc/slurm/slurmdbd.conf": ("slurm", 0o600),
    "etc/munge/munge.key": ("munge", 0o400),
    "etc/ssh/ssh_host_ed25519_key": ("root", 0o600),
    "root/.ssh/authorized_keys": ("root", 0o600),
}


def prepare(lab: Lab) -> None:
    """Make what all nodes of the lab share: keys, /home, the inventory's known_hosts."""
    (lab.run_dir / "munge.key").write_bytes(secrets.token_bytes(128))
    (lab.run_dir / "munge.key").chmod(0o600)
    lab.ssh_key.parent.mkdir(mode=0o700)
    _keygen(lab.ssh_key, comment=f"lab-{lab.name}")
    hosts = []
    for node in NODES:
        key = _host_key(lab, node)
        _keygen(key, comment=node.name)
        public = key.with_suffix(".pub").read_text().split()[:2]
        hosts.append(f"{node.name},{node.address} {' '.join(public)}\n")
    lab.known_hosts.write_text("".join(hosts))
    lab.home.mkdir()
    for user in USERS:
        home = lab.home / user.name
        home.mkdir(mode=0o700)
        os.chown(home, user.uid, user.uid)


def _host_key(lab: Lab, node: Node) -> Path:
    return lab.ssh_key.parent / f"host_{node.name}"


def _keygen(path: Path, *, comment: str) -> None:
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path])


def configure(lab: Lab, node: Node) -> None:
    """Write the node's files into its root file system, before its first boot."""
    root = lab.root(node)
    for source in (LAB_SOURCE / "site" / "all", LAB_SOURCE / "site" / node.role):
        if source.is_dir():
            _install_tree(source, root)
    written = {
        "etc/hostname": f"{node.name}\n",
        "etc/machine-id": f"{secrets.token_hex(16)}\n",
        "etc/lab-people": "".join(f"{user.name} {user.account}\n" for user in USERS),
        "etc/ssh/ssh_host_ed25519_key": _host_key(lab, node).read_text(),
        "root/.ssh/authorized_keys": lab.ssh_key.with_suffix(".pub").read_text(),
    }
    for name, text in written.items():
        _write(root / name, text.encode(), mode=0o644)
    _write(root / "etc/munge/munge.key", (lab.run_dir / "munge.key").read_bytes(), mode=0o400)
    uids = _uids(root)
    for name, (owner, mode) in _OWNED.items():
        path = root / name
        if path.exists():
            os.chown(path, uids[owner], -1)
            path.chmod(mode)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    for service in SERVICES[node.role]:
        own = f"/etc/systemd/system/{service}.service"
        unit = own if (root / own[1:]).exists() else f"/usr/lib/systemd/system/{service}.service"
        (wants / f"{service}.service").symlink_to(unit)


def _install_tree(source: Path, root: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file():
            executable = path.stat().st_mode & 0o100
            target = root / path.relative_to(source)
            _write(target, path.read_bytes(), mode=0o755 if executable else 0o644)


def _write(path: Path, content: bytes, *, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The image may hold a link in this place (resolv.conf), and it is the image's to follow.
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(content)
    path.chmod(mode)


def _uids(root: Path) -> dict[str, int]:
    lines = (root / "etc/passwd").read_text().splitlines()
    return {fields[0]: int(fields[2]) for fields in (line.split(":") for line in lines)}


def write_inventory(lab: Lab) -> None:
    """Write the Ansible inventory (JSON, which is YAML)."""
    lab.inventory.write_text(json.dumps(inventory(lab), indent=2) + "\n")


def collection_variables() -> dict[str, object]:
    """Return the variables of the collection slurmlet.hpc that this site sets."""
    namespaces = {
        user.name: {"user": user.name, "accounts": [user.account], "partitions": ["cpu", "debug"]}
        for user in USERS
    }
    return {
        "slurmlet_address": next(node.address for node in NODES if node.role == "control"),
        "slurmlet_cluster": CLUSTER,
        "slurmlet_namespaces": namespaces,
    }


def inventory(lab: Lab) -> dict[str, object]:
    """Return the inventory as a site would write it: hosts, groups and the site's variables."""
    hosts = {node.name: {"ansible_host": node.address} for node in NODES}
    control: dict[str, object] = {node.name: {} for node in NODES if node.role == "control"}
    compute: dict[str, object] = {
        node.name: {"slurmlet_pod_cidr": node.pods} for node in NODES if node.role == "compute"
    }
    connection = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(lab.ssh_key),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={lab.known_hosts} -o IdentitiesOnly=yes",
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    return {
        "all": {
            "hosts": hosts,
            "vars": {**connection, **collection_variables()},
            "children": {
                "slurmlet_control": {"hosts": control},
                "slurmlet_compute": {"hosts": compute},
                "slurmlet_login": {"hosts": control},
            },
        }
    }
