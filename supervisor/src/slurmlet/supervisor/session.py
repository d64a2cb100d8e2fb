"""One pod from its hello to its verdict: puts the parts together."""

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from slurmlet.contracts.names import (
    EARLY_SIGNAL_SECONDS,
    EXIT_RECORD,
    SLURM_ENDED_REASON,
    pod_state_dir,
)
from slurmlet.contracts.podproto import (
    Bye,
    OpenStream,
    Plan,
    Status,
    Stop,
    StreamFailed,
    Update,
    encode_message,
)
from slurmlet.supervisor.anchor import Anchor, start_anchor
from slurmlet.supervisor.config import Settings
from slurmlet.supervisor.control import Control
from slurmlet.supervisor.engines import engine_of
from slurmlet.supervisor.files import write_whole
from slurmlet.supervisor.hints import Hints, age
from slurmlet.supervisor.images import Images
from slurmlet.supervisor.network import Network, find_network, open_low_ports
from slurmlet.supervisor.pod import DEADLINE_REASON, Pod
from slurmlet.supervisor.process import ProcessError
from slurmlet.supervisor.redirect import Redirector
from slurmlet.supervisor.retention import SECONDS_PER_DAY, forgettable
from slurmlet.supervisor.runtime import EngineRuntime
from slurmlet.supervisor.sandbox import Sandbox, find_proof, find_sandbox
from slurmlet.supervisor.scratch import Scratch, abandoned, make_scratch
from slurmlet.supervisor.streams import Streams
from slurmlet.supervisor.volumes import MEMORY_SIZE, Directories, VolumeError, make_volumes

LOG = logging.getLogger("slurmlet.supervisor")
PLAN_TIMEOUT = 600.0
"""Seconds to wait for a plan: an agent that is being upgraded comes back, a dead one must not hold
the allocation."""
ACK_TIMEOUT = 600.0
"""Seconds to wait for the agent to store the end; then the exit record has to do."""
LAST_ACK_TIMEOUT = 15.0
"""The same when the job is being ended: Slurm kills it after KillWait, 30 s unless configured."""
_SLURM_ENDS = "Slurm asked the job to end"
_CLOCKS_DIFFER = 5.0
"""Seconds, between a node and slurmctld."""
SWEEP_TIMEOUT = 10.0
"""Seconds that a job goes on for what killed ones left, after its containers ended."""
_DISMISSED = 1
_NO_PLAN = 75


class Session:
    """Signals may stop it at any time; before there is a pod that ends the wait for a plan."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._environment = helper_environment(environment)
        self._pod: Pod | None = None
        self._streams: Streams | None = None
        self._redirector: Redirector | None = None
        self._update = Update()
        self._stopped = asyncio.Event()
        job = settings.job
        self.state = Path(pod_state_dir(str(settings.state_dir), job.pod_uid))
        self._tls = ssl.create_default_context(cafile=settings.supervisor.ca_file)
        self._control = Control(
            job,
            tls=self._tls,
            on_stop=self._on_stop,
            on_stream=self._on_stream,
            on_update=self._on_update,
            proof=find_proof(job.job_id),
        )

    def terminate(self) -> None:
        """Slurm ends the job (SIGTERM): stop with the pod's own grace."""
        self._stopped.set()
        if self._pod:
            self._pod.stop(self._pod.grace, reason=SLURM_ENDED_REASON, message=_SLURM_ENDS)

    def warned(self) -> None:
        """Slurm will end the job (SIGUSR1, `--signal`): before it preempts, or as its time runs
        out. Of the second nothing is left to say for Slurm, if the containers end in time."""
        pod, ends = self._pod, self._settings.job.ends
        early = EARLY_SIGNAL_SECONDS + _CLOCKS_DIFFER
        if pod and ends and time.time() > ends - pod.grace - early:
            pod.stop(pod.grace, reason=DEADLINE_REASON, message="The time limit of the job is over")
        self.terminate()

    async def run(self) -> int:
        """The supervisor's exit code."""
        connection = asyncio.create_task(self._control.run())
        try:
            plan = await self._plan()
            if not isinstance(plan, Plan):
                return plan
            status, code = await self._run_pod(plan)
            self._record(status)
            if self._streams:
                await self._streams.close()
            with suppress(TimeoutError):
                patience = LAST_ACK_TIMEOUT if self._stopped.is_set() else ACK_TIMEOUT
                async with asyncio.timeout(patience):
                    await self._control.acknowledged(status.seq)
            return code
        finally:
            connection.cancel()
            await asyncio.gather(connection, return_exceptions=True)

    async def _plan(self) -> Plan | int:
        stopped = asyncio.ensure_future(self._stopped.wait())
        await asyncio.wait(
            (self._control.plan, stopped),
            timeout=PLAN_TIMEOUT,
            return_when=asyncio.FIRST_COMPLETED,
        )
        stopped.cancel()
        if not self._control.plan.done():
            LOG.error("no plan: %s", "stopped" if self._stopped.is_set() else "no agent")
            return _NO_PLAN
        answer = self._control.plan.result()
        LOG.info("plan after %.3f s", age())
        return _DISMISSED if isinstance(answer, Bye) else answer

    async def _run_pod(self, plan: Plan) -> tuple[Status, int]:
        settings = self._settings
        pod = self._pod = Pod(
            plan,
            logs=self.state,
            log_limit=settings.supervisor.log_max_mib * 1024 * 1024,
            publish=self._control.publish,
            tell=self._control.tell,
            started=settings.job.started,
        )
        self._streams = Streams(
            settings.job, tls=self._tls, logs=self.state, log=pod.log, tell=self._control.tell
        )
        if self._stopped.is_set():
            self.terminate()
        scratch: Scratch | None = None
        anchor: Anchor | None = None
        try:
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            scratch = make_scratch(settings.supervisor.scratch_dir, job_id=settings.job.job_id)
            sandbox = find_sandbox(settings.job.job_id)
            network = find_network(plan, sandbox=sandbox, tell=self._control.tell)
            anchor = await start_anchor(
                self._environment, sandbox=sandbox, hostname=network.names.kernel
            )
            runtime = await self._runtime(
                plan, anchor=anchor, scratch=scratch.path, sandbox=sandbox, network=network
            )
            sweep = asyncio.create_task(self._sweep(anchor))
            beside = [sweep]
            if network.own:
                beside.append(asyncio.create_task(self._redirect(plan, anchor, scratch.path)))
            try:
                return await pod.run(runtime)
            finally:
                self._redirector = None
                if not self._stopped.is_set():
                    # Who only runs short pods must be rid of it, too.
                    await asyncio.wait({sweep}, timeout=SWEEP_TIMEOUT)
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
        except (ProcessError, VolumeError) as error:
            return pod.fail("FailedCreatePodSandBox", str(error))
        except OSError as error:
            return pod.fail("FailedCreatePodSandBox", f"{error.filename}: {error.strerror}")
        except Exception:
            LOG.exception("the pod failed")
            return pod.fail("SupervisorFailed", "internal error; see the job's output")
        finally:
            await self._clean(anchor, scratch)

    async def _runtime(
        self,
        plan: Plan,
        *,
        anchor: Anchor,
        scratch: str,
        sandbox: Sandbox | None,
        network: Network,
    ) -> EngineRuntime:
        supervisor = self._settings.supervisor
        directories = Directories(scratch=scratch, memory=f"{scratch}/memory")
        await anchor.mount(
            "tmpfs", directories.memory, options=f"mode=0700,nosuid,nodev,size={MEMORY_SIZE}"
        )
        engine = plan.engine or supervisor.default_engine
        if engine not in supervisor.engines:
            raise ProcessError(
                f"engine {engine!r} is not allowed here; allowed are"
                f" {', '.join(supervisor.engines)}"
            )
        runtime = EngineRuntime(
            plan=plan,
            anchor=anchor,
            engine=engine_of(engine),
            images=Images(
                cache=self._settings.image_cache,
                anchor=anchor,
                environment=self._environment,
                insecure=supervisor.insecure_registries,
                timeout=supervisor.pull_timeout,
                auth_file=anchor.path(directories.auth_file),
            ),
            volumes=await make_volumes(plan, anchor=anchor, directories=directories),
            directories=directories,
            network=network,
            replan=self._control.replan,
            tell=self._control.tell,
            hints=Hints(sandbox.hints, pod=plan.pod) if sandbox else None,
        )
        if network.own:
            await open_low_ports(anchor)
        await runtime.prepare()
        return runtime

    async def _redirect(self, plan: Plan, anchor: Anchor, scratch: str) -> None:
        """Keep the rules in the pod's own network as the agent wants them."""
        self._redirector = Redirector(
            anchor=anchor,
            directory=f"{scratch}/memory",
            pod_ip=plan.pod_ip,
            tell=self._control.tell,
        )
        self._redirector.want(self._update)
        await self._redirector.run()

    async def _sweep(self, anchor: Anchor) -> None:
        """Remove what killed jobs of this user left on this node, and logs that are too old."""
        supervisor = self._settings.supervisor
        for path in abandoned(supervisor.scratch_dir):
            LOG.info("removing %s, which a killed job left", path)
            with suppress(ProcessError):
                await anchor.run(["rm", "-rf", "--one-file-system", "--", path])
        before = time.time() - supervisor.keep_logs_days * SECONDS_PER_DAY
        for old in forgettable(self._settings.state_dir, before=before):
            with suppress(ProcessError):
                await anchor.run(["rm", "-rf", "--one-file-system", "--", str(old)])

    async def _clean(self, anchor: Anchor | None, scratch: Scratch | None) -> None:
        if anchor and scratch:
            # A container that could not be started has left its root file system mounted.
            with suppress(ProcessError, OSError):
                await anchor.unmount_below(f"{scratch.path}/containers")
            with suppress(ProcessError):
                # Layers and volumes belong to subordinate ids; mounts below go with the anchor.
                await anchor.run(
                    ["rm", "-rf", "--one-file-system", "--"]
                    + [f"{scratch.path}/{name}" for name in ("containers", "volumes")]
                )
        if anchor:
            await anchor.stop()
        if scratch:
            scratch.remove()

    def _record(self, status: Status) -> None:
        try:
            write_whole(self.state / EXIT_RECORD, encode_message(status).encode())
        except OSError as error:
            LOG.error("exit record: %s", error)

    def _on_stop(self, stop: Stop) -> None:
        self._stopped.set()
        if self._pod:
            self._pod.stop(stop.grace)

    def _on_update(self, update: Update) -> None:
        self._update = update
        if self._redirector:
            self._redirector.want(update)

    def _on_stream(self, request: OpenStream) -> None:
        if self._streams:
            self._streams.open(request)
        else:
            self._control.tell(StreamFailed(id=request.id, message="the pod has not started yet"))


def helper_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What helpers and engines get of the job's environment: nothing of Slurm, no token."""
    kept = ("PATH", "HOME", "USER", "LANG", "http_proxy", "https_proxy", "no_proxy")
    result = {name: environment[name] for name in kept if name in environment}
    return {"PATH": os.defpath, **result}
