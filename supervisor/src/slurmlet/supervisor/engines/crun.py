"""crun: one OCI bundle per container start, without namespaces of its own but PID and mount."""

import json
import signal
from typing import Any

from slurmlet.supervisor.engines.interface import (
    FAILURE_FD,
    MAX_ROOM,
    OOM_SCORE,
    ContainerSpec,
    Launch,
    Mount,
    Place,
)

_PLAIN = ["nosuid", "noexec", "nodev"]
_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class Crun:
    name = "crun"
    wants_devices = False
    prefix = 0
    room = MAX_ROOM

    def takes(self, name: str) -> bool:
        return True

    def launch(self, spec: ContainerSpec, place: Place) -> Launch:
        bundle = place.anchor.path(place.bundle)
        # The environment is in it: it lies on a tmpfs that only this user can enter.
        config = oci_config(spec, rootfs=place.rootfs, sysfs=place.sysfs)
        (bundle / "config.json").write_text(json.dumps(config))
        (bundle / "state").mkdir(exist_ok=True)
        error_file = f"{place.bundle}/error"
        return Launch(
            arguments=(
                "crun",
                "--cgroup-manager=disabled",
                f"--root={place.bundle}/state",
                f"--log={error_file}",
                "--log-format=json",
                "run",
                # A count, from 3 on.
                f"--preserve-fds={FAILURE_FD - 2}",
                f"--bundle={place.bundle}",
                place.id,
            ),
            environment=place.anchor.environment,
            error_file=error_file,
        )

    def error(self, text: str, *, code: int) -> str:
        messages = []
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and entry.get("level") == "error":
                messages.append(str(entry.get("msg", "")))
        return "; ".join(messages)


def oci_config(spec: ContainerSpec, *, rootfs: str, sysfs: str = "/sys") -> dict[str, Any]:
    """config.json of the OCI runtime specification."""
    # Only root keeps capabilities over the exec, as with Kubernetes' runtimes.
    kept = list(spec.capabilities) if spec.uid == 0 else []
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": spec.uid, "gid": spec.gid, "additionalGids": list(spec.groups)},
            "args": list(spec.arguments),
            "env": [f"{name}={value}" for name, value in spec.environment.items()],
            "cwd": spec.directory,
            "capabilities": {
                "bounding": list(spec.capabilities),
                "permitted": kept,
                "effective": kept,
            },
            "noNewPrivileges": not spec.privilege_escalation,
            "oomScoreAdj": OOM_SCORE,
        },
        "root": {"path": rootfs, "readonly": spec.read_only},
        "mounts": [
            _mount("/proc", "proc", "proc", _PLAIN),
            _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            _mount(
                "/dev/pts",
                "devpts",
                "devpts",
                ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            ),
            _mount("/dev/mqueue", "bind", "/dev/mqueue", ["rbind", *_PLAIN]),
            _mount("/sys", "bind", sysfs, ["rbind", "rro", *_PLAIN]),
            *(_bind(mount) for mount in spec.mounts),
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}],
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
        },
        "annotations": {"org.opencontainers.image.stopSignal": signal_name(spec.stop_signal)},
    }


def signal_name(number: int) -> str:
    """SIGTERM of 15; real-time signals as their number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _bind(mount: Mount) -> dict[str, Any]:
    options = ["rbind", "rprivate", "ro" if mount.read_only else "rw"]
    return _mount(mount.target, "bind", mount.source, options)


def _mount(target: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": options}
