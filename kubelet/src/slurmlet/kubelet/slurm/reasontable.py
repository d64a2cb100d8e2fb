"""Slurm's reasons for a job to wait, in plain words (docs/reasons.md): tables and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """What a reason `means`, and what happens `then`: when the job starts by itself, or, where it
    is `lasting`, what somebody must do, because no waiting helps."""

    means: str
    then: str
    lasting: bool = False


def _by_itself(means: str, then: str) -> Reason:
    return Reason(means=means, then=then)


def _lasting(means: str, remedy: str) -> Reason:
    return Reason(means=means, then=remedy, lasting=True)


_ASK_LESS = "ask for less, or for another QOS (annotation slurmlet.io/qos)"
_ASK_MORE = "ask for more, or for another QOS (annotation slurmlet.io/qos)"
_ASK_LESS_TIME = "ask for less time (annotation slurmlet.io/time)"
_ASK_ADMIN = "ask the administrator"
_RELEASE = "scontrol release lets it go on"
_PARTITION = "choose another partition (annotation slurmlet.io/partition), or ask for less"
_RESERVATION = "choose another reservation (annotation slurmlet.io/reservation), or none"
_ENOUGH = "it starts when enough of them end, and never if it alone asks for more"
_FORGOTTEN = (
    "it starts when Slurm has forgotten enough of that use, or the limit is raised; less time"
    " (annotation slurmlet.io/time) may still fit in"
)
_RUN_ON = (
    "it starts when these have run on or ended; less time (annotation slurmlet.io/time) lets it"
    " start earlier"
)
_ONE_OF_YOURS = "it starts when one of yours ends"
_ONE_OF_THEM = "it starts when one of them ends"
_NODES_BACK = "it starts when they are back"
_ENDED = "such a job has ended"

TABLE: Mapping[str, Reason] = {
    # It has its turn.
    "None": _by_itself("Slurm has not looked at it yet", "it does so within a minute or two"),
    "SchedDefer": _by_itself(
        "Slurm queues new jobs first", "it looks at this one within a minute or two"
    ),
    "Priority": _by_itself(
        "jobs with a higher priority wait for the same nodes",
        "it starts after them, or where it fits in between, for which less time helps"
        " (annotation slurmlet.io/time)",
    ),
    "Resources": _by_itself(
        "what it asks for is not free now", "it is one of the next, and starts when others end"
    ),
    "Licenses": _by_itself(
        "licences that it asks for are in use", "it starts when other jobs give them back"
    ),
    "JobArrayTaskLimit": _by_itself(
        "as many tasks of its array run as may at once", "it starts when one of them ends"
    ),
    "Cleaning": _by_itself("an earlier run of it is being cleaned up", "it starts afterwards"),
    "Prolog": _by_itself("its nodes are being prepared", "it starts when they are ready"),
    "FedJobLock": _by_itself(
        "the clusters of the federation settle which of them starts it", "it starts afterwards"
    ),
    "MaxPoweredUpNodes": _by_itself(
        "as many nodes are powered up as the site allows", "it starts when one of them is free"
    ),
    "MpiPortsBusy": _by_itself(
        "all ports that Slurm has for MPI are in use", "it starts when other jobs end"
    ),
    "NvidiaImexChannels": _by_itself(
        "all channels between the GPUs of nodes (IMEX) are in use", "it starts when other jobs end"
    ),
    "Constraints": _by_itself(
        "no node that it may have has the features that it asks for now",
        "it starts when one has, and sooner with another annotation slurmlet.io/constraint",
    ),
    "BurstBufferResources": _by_itself(
        "the burst buffer has no room now", "it starts when other jobs end"
    ),
    "BurstBufferStageIn": _by_itself(
        "its files are copied into the burst buffer", "it starts afterwards"
    ),
    # Its time has not come.
    "BeginTime": _by_itself(
        "its time has not come (annotation slurmlet.io/begin)", "it may start from then on"
    ),
    "Dependency": _by_itself(
        "what it depends on has not happened yet (annotation slurmlet.io/dependency)",
        "it starts afterwards",
    ),
    "Reservation": _by_itself(
        "its reservation has not begun, or has no room now", "it starts when it has"
    ),
    # What it may have is not there.
    "ReqNodeNotAvail": _by_itself("nodes that it needs are down, drained or reserved", _NODES_BACK),
    "PartitionDown": _by_itself(
        "no jobs start in {partition}, which is down",
        "it starts when the administrator opens it; another partition may be open"
        " (annotation slurmlet.io/partition)",
    ),
    "PartitionInactive": _by_itself(
        "no jobs start in {partition}, which is inactive",
        "it starts when the administrator opens it; another partition may be open"
        " (annotation slurmlet.io/partition)",
    ),
    "FrontEndDown": _by_itself(
        "the front end of the nodes is down", "it starts when the administrator has mended it"
    ),
    # Limits that are not made of the parts of _LIMIT.
    "QOSGrpJobsLimit": _by_itself("as many jobs of {qos} run as may at once", _ONE_OF_THEM),
    "QOSGrpSubmitJobsLimit": _by_itself(
        "as many jobs of {qos} are queued or run as may at once", _ONE_OF_THEM
    ),
    "QOSGrpWallLimit": _by_itself(
        "jobs of {qos} have used up the time that they may run together", _FORGOTTEN
    ),
    "QOSMaxJobsPerUserLimit": _by_itself(
        "you have as many jobs running as {qos} allows", _ONE_OF_YOURS
    ),
    "QOSMaxSubmitJobPerUserLimit": _by_itself(
        "you have as many jobs queued or running as {qos} allows", _ONE_OF_YOURS
    ),
    "MaxJobsPerAccount": _by_itself(
        "your account has as many jobs running as {qos} allows", _ONE_OF_THEM
    ),
    "MaxSubmitJobsPerAccount": _by_itself(
        "your account has as many jobs queued or running as {qos} allows", _ONE_OF_THEM
    ),
    "AssocGrpJobsLimit": _by_itself(
        "your account has as many jobs running as it may", _ONE_OF_THEM
    ),
    "AssocGrpSubmitJobsLimit": _by_itself(
        "your account has as many jobs queued or running as it may", _ONE_OF_THEM
    ),
    "AssocGrpWallLimit": _by_itself(
        "jobs of your account have used up the time that they may run together", _FORGOTTEN
    ),
    "AssocMaxJobsLimit": _by_itself(
        "you have as many jobs running as your account allows", _ONE_OF_YOURS
    ),
    "AssocMaxSubmitJobLimit": _by_itself(
        "you have as many jobs queued or running as your account allows", _ONE_OF_YOURS
    ),
    "AssociationJobLimit": _by_itself(
        "you or your account have as many jobs running as allowed", _ONE_OF_THEM
    ),
    "AssociationResourceLimit": _by_itself(
        "with it, running jobs of you or your account would have more than they may", _ENOUGH
    ),
    "AssociationTimeLimit": _by_itself(
        "jobs of you or your account have used up the time that they may run", _FORGOTTEN
    ),
    "QOSJobLimit": _by_itself("as many jobs of {qos} run as allowed", _ONE_OF_THEM),
    "QOSResourceLimit": _by_itself(
        "with it, running jobs of {qos} would have more than they may", _ENOUGH
    ),
    "QOSTimeLimit": _by_itself("jobs of {qos} have used up the time that they may run", _FORGOTTEN),
    "QOSUsageThreshold": _by_itself(
        "you have used more of the cluster than {qos} allows",
        "it starts when Slurm has forgotten enough of that, and sooner in another QOS"
        " (annotation slurmlet.io/qos)",
    ),
    "AccountingPolicy": _by_itself(
        "a limit of your account or QOS is reached", "it starts when other jobs end"
    ),
    # Nothing but a change helps.
    "AssocMaxWallDurationPerJobLimit": _lasting(
        "it asks for more time than your account allows a job", _ASK_LESS_TIME
    ),
    "QOSMaxWallDurationPerJobLimit": _lasting(
        "it asks for more time than {qos} allows a job", _ASK_LESS_TIME
    ),
    "PartitionTimeLimit": _lasting(
        "it asks for more time than {partition} allows",
        "ask for less time (annotation slurmlet.io/time, or activeDeadlineSeconds), or choose"
        " another partition; scontrol show partition has the limits",
    ),
    "PartitionNodeLimit": _lasting(
        "it asks for more or for fewer nodes than {partition} has or allows", _PARTITION
    ),
    # 26.05 queues what needs more CPUs than the whole partition has; 24.11 refuses it.
    "PartitionConfig": _lasting("{partition} cannot give what it asks for", _PARTITION),
    "MaxMemPerLimit": _lasting("it asks for more memory than {partition} allows", _PARTITION),
    "BadConstraints": _lasting(
        "no node has the features that it asks for, or not together with the rest",
        "change the annotation slurmlet.io/constraint; sinfo -o %f lists features",
    ),
    "DependencyNeverSatisfied": _lasting(
        "the job that it depends on ended otherwise than it must",
        "make the pod again without the annotation slurmlet.io/dependency",
    ),
    "InvalidAccount": _lasting(
        "its account does not exist, or is not yours",
        "choose another account (annotation slurmlet.io/account)",
    ),
    "InvalidQOS": _lasting(
        "{qos} does not exist, or you may not have it",
        "choose another QOS (annotation slurmlet.io/qos)",
    ),
    "AccountNotAllowed": _lasting(
        "{partition} takes no jobs of your account or group",
        "choose another account (annotation slurmlet.io/account) or partition",
    ),
    "QOSNotAllowed": _lasting(
        "{partition} takes no jobs of {qos}",
        "choose another QOS (annotation slurmlet.io/qos) or partition",
    ),
    "ReservationDeleted": _lasting("its reservation was deleted", _RESERVATION),
    "ReservationInvalid": _lasting("its reservation does not exist or is not yours", _RESERVATION),
    "JobHeldUser": _lasting("you hold it, or somebody does for you", _RELEASE),
    "JobHeldAdmin": _lasting(
        "an administrator holds it, or Slurm does", "ask the administrator to release it"
    ),
    "JobHoldMaxRequeue": _lasting(
        "Slurm tried too often in vain to start it",
        f"{_RELEASE}; {_ASK_ADMIN} what is wrong with its nodes",
    ),
    "BurstBufferOperation": _lasting("the burst buffer failed", _ASK_ADMIN),
    "SystemFailure": _lasting("Slurm itself failed", _ASK_ADMIN),
    "JobLaunchFailure": _lasting("it could not be started on its nodes", _ASK_ADMIN),
    # Slurm keeps these for jobs that have ended.
    "DeadLine": _by_itself(
        "it could not end before its deadline (annotation slurmlet.io/deadline)", _ENDED
    ),
    "InactiveLimit": _by_itself("it was idle for too long", _ENDED),
    "NodeDown": _by_itself("a node of it failed", _ENDED),
    "NonZeroExitCode": _by_itself("its program ended with an error", _ENDED),
    "OutOfMemory": _by_itself("its memory was not enough", _ENDED),
    "RaisedSignal": _by_itself("a signal ended its program", _ENDED),
    "TimeLimit": _by_itself("it reached its time limit", _ENDED),
}
"""Reasons by Slurm's word (job_state_reason_string), but for the families of LIMITS. `{qos}` and
`{partition}` stand for the job's."""

RESOURCES: Mapping[str, str] = {
    "BB": "burst buffer",
    "Billing": "billing units",
    "CPU": "CPUs",
    "Cpu": "CPUs",
    "Energy": "energy",
    "GRES": "GPUs or other generic resources",
    "License": "licences",
    "Mem": "memory",
    "Memory": "memory",
    "Node": "nodes",
    "Unknown": "resources of some kind",
}

LIMITS: Mapping[str, Reason] = {
    "Grp": _by_itself(
        "with it, the running jobs of {whose} would have more {what} than they may together",
        _ENOUGH,
    ),
    "GrpMinutes": _by_itself(
        "with it, jobs of {whose} would use up more minutes of {what} than they may", _FORGOTTEN
    ),
    "GrpRunMinutes": _by_itself(
        "with it, the running jobs of {whose} would have more minutes of {what} before them than"
        " they may",
        _RUN_ON,
    ),
    "MaxPerUser": _by_itself(
        "with it, your running jobs would have more {what} than {whose} allows a user", _ENOUGH
    ),
    "MaxPerAccount": _by_itself(
        "with it, the running jobs of your account would have more {what} than {whose} allows",
        _ENOUGH,
    ),
    "MaxRunMinutesPerUser": _by_itself(
        "with it, your running jobs would have more minutes of {what} before them than {whose}"
        " allows a user",
        _RUN_ON,
    ),
    "MaxRunMinutesPerAccount": _by_itself(
        "with it, the running jobs of your account would have more minutes of {what} before them"
        " than {whose} allows",
        _RUN_ON,
    ),
    "MaxPerJob": _lasting("it asks for more {what} than {whose} allows a job", _ASK_LESS),
    "MaxPerNode": _lasting("it asks for more {what} on a node than {whose} allows", _ASK_LESS),
    "MaxMinutesPerJob": _lasting(
        "it asks for more minutes of {what} than {whose} allows a job",
        f"{_ASK_LESS_TIME}, for less, or for another QOS",
    ),
    "Min": _lasting("{whose} demands more {what} of a job than it asks for", _ASK_MORE),
}
"""Families of limits by the parts of their names; `{what}` is of RESOURCES, `{whose}` is the
account or the QOS that has the limit."""

_MAINTENANCE = _by_itself(
    "nodes that it needs are reserved for maintenance, before which it would not end",
    "it starts afterwards, or before if it asks for less time (annotation slurmlet.io/time)",
)
_TAKEN = _by_itself(
    "nodes that it may have are down, drained or kept for jobs of other partitions", _NODES_BACK
)
_SCATTERED = _by_itself(
    "no part of the network has all of what it asks for free now", "it starts when others end"
)
_NOT_LAUNCHED = _lasting(
    "its nodes could not start it, and Slurm holds it",
    f"{_RELEASE}; {_ASK_ADMIN} what is wrong with them",
)
_LICENCES_GONE = _lasting(
    "licences that it asks for do not exist any more",
    "make the pod again with another annotation slurmlet.io/licenses",
)

SENTENCES: Mapping[str, Reason] = {
    "ReqNodeNotAvail, Reserved for maintenance": _MAINTENANCE,
    "Nodes required for job are DOWN": _TAKEN,
    "Required nodes lack available resources": _SCATTERED,
    "Required nodes do not fit topology": _SCATTERED,
    "No suitable topology unit found": _SCATTERED,
    "Insufficient resources in topology unit": _SCATTERED,
    "No available nodes in topology": _SCATTERED,
    "Weight-based selection could not satisfy request": _SCATTERED,
    "Exceeded maximum node limit during topology allocation": _SCATTERED,
    "Reservation … was deleted": TABLE["ReservationDeleted"],
    "Reservation … is invalid": TABLE["ReservationInvalid"],
    "License request … is no longer valid": _LICENCES_GONE,
    "uid … not in group permitted to use this partition": TABLE["AccountNotAllowed"],
    "Job's QOS not": TABLE["QOSNotAllowed"],
    "job requeued in held state": TABLE["JobHeldUser"],
    "job requeued in special exit state": TABLE["JobHeldUser"],
    "launch failed requeued held": _NOT_LAUNCHED,
    "user env retrieval failed requeued held": _NOT_LAUNCHED,
    "launch failure limit exceeded requeued held": TABLE["JobHoldMaxRequeue"],
    "Burst buffer": TABLE["BurstBufferOperation"],
    "burst_buffer/": TABLE["BurstBufferOperation"],
}
"""What Slurm says instead of a word (`state_desc` of slurmctld), by how it begins; … is a text."""
