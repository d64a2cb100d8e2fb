"""What is put before a container's command."""

from slurmlet.contracts.names import ENTER, INIT_ANNOTATION
from slurmlet.supervisor.engines.interface import FAILURE_FD, ContainerSpec, Mount
from slurmlet.supervisor.init import PATH, with_init


def test_the_command_runs_below_our_init() -> None:
    volume = Mount(source="/v", target="/data")
    spec = ContainerSpec(
        arguments=("--x", "y"),
        environment={"A": "b"},
        directory="/",
        uid=5,
        gid=6,
        mounts=(volume,),
    )
    made = with_init(spec, pod={"metadata": {"name": "web"}})
    assert made.arguments == (PATH, "--init", f"--failure={FAILURE_FD}", "--", "--x", "y")
    last = Mount(source=ENTER, target=PATH, read_only=True, directory=False)
    assert made.mounts == (volume, last)
    assert (made.uid, made.gid, made.environment) == (5, 6, {"A": "b"})


def test_a_pod_may_do_without() -> None:
    spec = ContainerSpec(arguments=("/init",), environment={}, directory="/", uid=0, gid=0)
    assert with_init(spec, pod={"metadata": {"annotations": {INIT_ANNOTATION: "false"}}}) == spec
    assert with_init(spec, pod={"metadata": {"annotations": {INIT_ANNOTATION: "true"}}}) != spec
    of_its_namespace = {"ns.slurmlet.io/init": "false"}
    assert with_init(spec, pod={"metadata": {"annotations": of_its_namespace}}) == spec
    own = of_its_namespace | {INIT_ANNOTATION: "true"}
    assert with_init(spec, pod={"metadata": {"annotations": own}}) != spec
