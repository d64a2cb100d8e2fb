"""Names that more than one component depends on (docs/contracts.md, Names)."""

from collections.abc import Mapping
from pathlib import PurePosixPath

CONFIG_FILE = "/etc/slurmlet/slurmlet.toml"
IDENTITY_FILE = "/etc/slurmlet/identity.toml"
PKI_DIR = "/etc/slurmlet/pki"
BROKER_SOCKET = "/run/slurmlet/broker.sock"
POLICY_FILE = "/run/slurmlet-kubelet/policy.json"
"""In a directory of the agent's; /run/slurmlet is root's (docs/contracts.md, Policy snapshot)."""
RELEASE = "/opt/slurmlet/current"
ENTER = f"{RELEASE}/bin/slurmlet-enter"
SANDBOX_JOBS = "/run/slurmlet/jobs"
SANDBOX_DISABLED = "/run/slurmlet/disabled"
"""Says why a node makes no sandboxes, if it makes none."""
SANDBOX_MODES = ("host", "net")
"""What network a sandbox has: its node's, or one of its own."""

SCHEDULER_NAME = "slurmlet-scheduler"
NODE_NAME = "slurm"
TAINT_KEY = "slurmlet.io/slurm"
KUBELET_PORT = 10250
FURTHER_KUBELET_PORTS = 10300
"""Of the second virtual node; those of further ones follow."""
SUPERVISOR_PORT = 10260
WEBHOOK_PORT = 10270
WEBHOOK_METRICS_PORT = 10280
SCHEDULER_METRICS_PORT = 10283
"""The role dns has the two before for CoreDNS."""

ADMISSION_LABEL = "slurmlet.io/admission"
HEADLESS_LABEL = "slurmlet.io/headless"
ORIGINAL_TYPE_ANNOTATION = "slurmlet.io/original-type"
"""Of a Service that the webhook made headless: NodePort or LoadBalancer."""
PARTITION_LABEL = "slurmlet.io/partition"
LARGEST_ANNOTATION = "slurmlet.io/largest"
DEFAULT_PARTITION_LABEL = "slurmlet.io/default-partition"
"""`true` on the node of the partition that Slurm gives to jobs that name none."""
MAX_TIME_LABEL = "slurmlet.io/max-time"
"""Minutes that a job of the node's partition may run, or `unlimited`."""
OVERLAPS_ANNOTATION = "slurmlet.io/overlaps"
PARTITIONS_ANNOTATION = "slurmlet.io/partitions"
SLURM_NODES_ANNOTATION = "slurmlet.io/slurm-nodes"
JOBS_ANNOTATION = "slurmlet.io/jobs"
ENGINE_ANNOTATION = "slurmlet.io/engine"
FLAGS_ANNOTATION = "slurmlet.io/flags"
INIT_ANNOTATION = "slurmlet.io/init"
INIT_VALUES = ("true", "false")
"""Whether an init of ours is PID 1 of the pod's containers; the first is the default."""
PREFIX = "slurmlet.io/"
NAMESPACE_PREFIX = "ns." + PREFIX
"""Keys that a pod has from its namespace: defaults, which its own keys of `PREFIX` override."""
STATUS_PREFIX = "status.slurmlet.io/"
JOB_ID_ANNOTATION = STATUS_PREFIX + "job-id"
JOB_STATE_ANNOTATION = STATUS_PREFIX + "job-state"
NODES_ANNOTATION = STATUS_PREFIX + "nodes"
REQUEST_ANNOTATION = STATUS_PREFIX + "request"
ATTEMPT_ANNOTATION = STATUS_PREFIX + "attempt"
STATUS_ANNOTATIONS = (
    JOB_ID_ANNOTATION,
    JOB_STATE_ANNOTATION,
    NODES_ANNOTATION,
    REQUEST_ANNOTATION,
    ATTEMPT_ANNOTATION,
)

PROTECTED_NAMESPACES = frozenset({"kube-system", "slurmlet-system"})

ENV_AGENT = "SLURMLET_AGENT"
ENV_POD_UID = "SLURMLET_POD_UID"
ENV_TOKEN = "SLURMLET_TOKEN"
ENV_CREDENTIAL = "SLURMLET_CREDENTIAL"
"""In sbatch's environment; the plugin moves it to the job's SPANK environment."""

JOB_SCRIPT = f"""#!/bin/sh
cd -P {RELEASE} && exec "$PWD/bin/python" -I -m slurmlet.supervisor
"""
"""What every job runs. exec, because Slurm signals only the direct child of a batch step; the
physical path, because an upgrade moves the link while jobs still import from it."""


def setting(annotations: Mapping[str, str], key: str) -> str | None:
    """The value of a key of `PREFIX` on a pod, else the default of its namespace."""
    return annotations.get(key, annotations.get(NAMESPACE_PREFIX + key.removeprefix(PREFIX)))


def job_name(*, uid: str, namespace: str, pod: str) -> str:
    """Name of a pod's job: the key comes first because slurmdbd cuts names at 255 bytes."""
    return f"{uid[:8]}/{namespace}/{pod}"


def job_comment(*, cluster: str, namespace: str, pod: str, uid: str, attempt: int) -> str:
    """Comment of a pod's job; sacct has it only with AccountingStoreFlags=job_comment."""
    return f"slurmlet:{cluster}:{namespace}/{pod}:{uid}:{attempt}"


def pod_state_dir(state_dir: str, uid: str) -> PurePosixPath:
    """Where the supervisor keeps a pod's logs and its exit record, as the pod's user."""
    return PurePosixPath(state_dir) / "pods" / uid


def log_file(container: str, restart_count: int) -> str:
    """Path of a container's log, relative to `pod_state_dir`."""
    return f"{container}/{restart_count}.log"


LOG_PARTS = 4
"""Files of one log: three quarters of what it may hold are there at any time."""


def log_part(file: str, age: int) -> str:
    """The file of a log that was rotated `age` times since it was written; 0 is being written."""
    return f"{file}.{age}" if age else file


EARLY_SIGNAL_SECONDS = 60
"""By so much earlier than it was asked to may Slurm signal a job (sbatch, --signal)."""

SLURM_ENDED_REASON = "SlurmTerminated"
"""Reason of a pod whose supervisor was signalled by Slurm; the agent replaces it by what Slurm says
of the job afterwards: cancelled, out of time, preempted."""

EXIT_RECORD = "exit.json"
"""Backup of the final status, relative to `pod_state_dir`."""
