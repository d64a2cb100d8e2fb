"""What remains of a job that ended without its supervisor's last words having been heard."""

import logging
from dataclasses import replace

from slurmlet.contracts.brokerproto import ReadLog
from slurmlet.contracts.names import EXIT_RECORD
from slurmlet.contracts.podproto import Status, decode_message
from slurmlet.kubelet.brokerclient import Broker, BrokerError
from slurmlet.kubelet.slurm.process import CommandError
from slurmlet.kubelet.slurm.query import JobFacts, Slurm

log = logging.getLogger(__name__)

PATIENCE_SECONDS = {"COMPLETED": 120.0}
"""How long details are waited for. Success is not said lightly; a file may be late over NFS."""
LEAST_PATIENCE_SECONDS = 15.0


def patience(state: str) -> float:
    """Seconds to wait for a final status or exit record of a job that ended in this state."""
    return PATIENCE_SECONDS.get(state, LEAST_PATIENCE_SECONDS)


async def exit_record(broker: Broker, *, namespace: str, uid: str) -> Status | None:
    """The final status that the supervisor left beside its logs, or None."""
    request = ReadLog(namespace=namespace, uid=uid, file=EXIT_RECORD)
    try:
        answer, content = await broker.ask(request)
        if answer.error:
            return None
        status = decode_message(content.decode())
    except BrokerError as error:
        log.warning("%s: exit record of %s: %s", namespace, uid, error)
        return None
    except ValueError as error:
        log.warning("%s: exit record of %s cannot be used: %s", namespace, uid, error)
        return None
    return status if isinstance(status, Status) and status.final else None


async def with_exit_code(slurm: Slurm, job: JobFacts) -> JobFacts:
    """The facts completed with the exit code that only the accounting has."""
    try:
        past = (await slurm.past([job.job_id])).get(job.job_id)
    except CommandError:
        return job
    return replace(job, exit_code=past.exit_code) if past else job
