from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.request import (
    JobRequest,
    RequestPolicy,
    effective_resources,
    grace_seconds,
    policy_problems,
    sbatch_argv,
    translate,
)

POLICY = RequestPolicy(pod_overhead_memory=0)


def container(
    requests: dict[str, Any] | None = None, limits: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": requests or {}, "limits": limits or {}}, **more}


def pod(*containers: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> Any:
    return {
        "metadata": {"name": "web", "annotations": annotations or {}},
        "spec": {"containers": list(containers) or [container()], **spec},
    }


def options(item: dict[str, Any], policy: RequestPolicy = POLICY) -> dict[str, str]:
    translation = translate(item, policy)
    assert translation.errors == ()
    return dict(translation.options)


def sidecar(**requests: str) -> dict[str, Any]:
    return container(requests, restartPolicy="Always")


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        (pod(), {"cpus-per-task": "1", "mem": "256M"}),
        (
            pod(container({"cpu": "500m", "memory": "64Mi"})),
            {"cpus-per-task": "1", "mem": "64M"},
        ),
        (
            pod(container({"cpu": "1"}), container({"cpu": "1100m"})),
            {"cpus-per-task": "3", "mem": "256M"},
        ),
        (pod(container({"memory": "64M"})), {"cpus-per-task": "1", "mem": "62M"}),
        (
            pod(container({"cpu": "1", "memory": "1Gi"}, {"cpu": "4", "memory": "2Gi"})),
            {"cpus-per-task": "1", "mem": "2048M"},
        ),
        (
            pod(
                container({"memory": "1Gi"}, {"memory": "2Gi"}),
                container({"memory": "1Gi"}),
            ),
            {"cpus-per-task": "1", "mem": "2048M"},
        ),
        (pod(container(None, {"cpu": "3"})), {"cpus-per-task": "3", "mem": "256M"}),
        (
            pod(container(None, {"nvidia.com/gpu": "2"})),
            {"cpus-per-task": "1", "mem": "256M", "gres": "gpu:2"},
        ),
        (
            pod(container({"ephemeral-storage": "1Gi", "example.org/fpga": "0"})),
            {"cpus-per-task": "1", "mem": "256M"},
        ),
        (
            pod(activeDeadlineSeconds=61, terminationGracePeriodSeconds=0),
            {"cpus-per-task": "1", "mem": "256M", "time": "3"},
        ),
        (
            # The largest that the API server takes.
            pod(activeDeadlineSeconds=2**31 - 1),
            {"cpus-per-task": "1", "mem": "256M", "time": "35791396"},
        ),
        (
            pod(activeDeadlineSeconds=60, terminationGracePeriodSeconds=120),
            {"cpus-per-task": "1", "mem": "256M", "time": "4"},
        ),
        (
            pod(nodeSelector={"slurmlet.io/partition": "debug", "kubernetes.io/os": "linux"}),
            {"cpus-per-task": "1", "mem": "256M", "partition": "debug"},
        ),
    ],
)
def test_what_a_spec_asks_of_slurm(item: dict[str, Any], wanted: dict[str, str]) -> None:
    assert options(item) == wanted


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (
            pod(container({"cpu": "9999999999"})),
            "spec.containers[*].resources: value '9999999999' is not valid for --cpus-per-task;",
        ),
        (
            pod(container({"memory": "1Ei"})),
            "spec.containers[*].resources: value '1099511627776M' is not valid for --mem;",
        ),
        (
            pod(nodeSelector={"slurmlet.io/partition": "_gpu"}),
            "spec.nodeSelector[slurmlet.io/partition]: value '_gpu' is not valid for --partition;",
        ),
    ],
)
def test_what_a_spec_asks_for_and_the_broker_refuses_is_an_error(
    item: dict[str, Any], said: str
) -> None:
    (error,) = translate(item, POLICY).errors
    assert error.startswith(said)


def test_memory_is_never_nothing_and_carries_the_supervisors_part() -> None:
    assert options(pod(), RequestPolicy())["mem"] == "320M"
    assert options(pod(container({"memory": "0"})), RequestPolicy())["mem"] == "320M"
    assert options(pod(container({"cpu": "0"})))["cpus-per-task"] == "1"


GIB = {"memory": "1Gi"}


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        # Before the containers with their limit an init container without one has its turn.
        (pod(container(None, GIB), initContainers=[container({"memory": "8Gi"})]), "8192M"),
        (pod(container(GIB, {"memory": "4Gi"}), initContainers=[container()]), "4096M"),
        (pod(container(GIB), initContainers=[container(None, {"memory": "4Gi"})]), "4096M"),
        # A sidecar runs beside them.
        (
            pod(
                container(None, GIB),
                initContainers=[container({"memory": "2Gi"}, restartPolicy="Always")],
            ),
            "3072M",
        ),
        (
            pod(
                container(GIB, {"memory": "2Gi"}),
                initContainers=[container(GIB, {"memory": "2Gi"}, restartPolicy="Always")],
            ),
            "4096M",
        ),
        # The pod's own limit counts for all of them, also beside requests of theirs.
        (pod(resources={"requests": GIB, "limits": {"memory": "4Gi"}}), "4096M"),
        (pod(container({"memory": "2Gi"}), resources={"limits": {"memory": "4Gi"}}), "4096M"),
        (pod(container(None, GIB), resources={"requests": {"memory": "3Gi"}}), "3072M"),
        (pod(container(GIB, {"memory": "0"})), "1024M"),
    ],
)
def test_memory_is_the_limit_of_all_and_never_less_than_the_request(
    item: dict[str, Any], wanted: str
) -> None:
    assert options(item)["mem"] == wanted


def test_the_site_comes_before_the_spec_and_the_annotation_after() -> None:
    policy = RequestPolicy(options={"qos": "low", "time": "60", "partition": "cpu"})
    item = pod(activeDeadlineSeconds=600, annotations={"slurmlet.io/partition": "debug"})
    found = options(item, policy)
    assert (found["qos"], found["time"], found["partition"]) == ("low", "12", "debug")


def test_a_namespaces_default_lies_between_the_site_and_the_spec() -> None:
    policy = RequestPolicy(options={"qos": "low", "time": "60"}, pod_overhead_memory=0)
    defaults = {
        "ns.slurmlet.io/qos": "course",
        "ns.slurmlet.io/mem": "2G",
        "ns.slurmlet.io/cpus-per-task": "4",
        "ns.slurmlet.io/flags": "--partition=cpu --time=30",
    }
    assert options(pod(annotations=defaults), policy) == {
        "cpus-per-task": "4",
        "mem": "2G",
        "qos": "course",
        "partition": "cpu",
        "time": "30",
    }
    said = container({"cpu": "2", "memory": "1Gi"})
    own = defaults | {"slurmlet.io/qos": "high"}
    assert options(pod(said, annotations=own, activeDeadlineSeconds=600), policy) == {
        "cpus-per-task": "2",
        "mem": "1024M",
        "qos": "high",
        "partition": "cpu",
        "time": "12",
    }


def test_the_sites_own_options_count_for_a_pod_that_says_nothing() -> None:
    policy = RequestPolicy(options={"mem-per-cpu": "1G", "cpus-per-task": "3"})
    assert options(pod(), policy) == {"mem-per-cpu": "1G", "cpus-per-task": "3"}
    assert options(pod(container({"memory": "1Gi"})), policy)["mem"] == "1088M"
    assert "mem-per-cpu" not in options(pod(container({"memory": "1Gi"})), policy)


LOCKED = RequestPolicy(locks={"partition": "cpu", "time": "60", "gres": "gpu:1"})


def test_what_the_site_locks_every_pod_gets() -> None:
    for item in (
        pod(),
        pod(annotations={"slurmlet.io/partition": "cpu", "ns.slurmlet.io/partition": "debug"}),
        pod(container(None, {"nvidia.com/gpu": 4}), activeDeadlineSeconds=6000),
    ):
        found = options(item, LOCKED)
        assert {name: found[name] for name in LOCKED.locks} == LOCKED.locks


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (
            pod(annotations={"slurmlet.io/flags": "-p debug"}),
            (
                "annotation slurmlet.io/flags: --partition=debug, but the site gives every pod"
                " --partition=cpu; remove it"
            ),
        ),
        (
            pod(nodeSelector={"slurmlet.io/partition": "debug"}),
            (
                "spec.nodeSelector[slurmlet.io/partition]: --partition=debug, but the site gives"
                " every pod --partition=cpu; remove it"
            ),
        ),
        (
            pod(annotations={"slurmlet.io/gpus": "1"}),
            (
                "annotation slurmlet.io/gpus: --gpus=1, but the site gives every pod --gres=gpu:1;"
                " remove it"
            ),
        ),
    ],
)
def test_who_asks_otherwise_than_the_site_has_locked_is_refused(item: Any, said: str) -> None:
    found = translate(item, LOCKED)
    assert found.errors == (said,)
    assert {name: found.options[name] for name in LOCKED.locks} == LOCKED.locks


@pytest.mark.parametrize(
    ("name", "lock", "same", "other"),
    [
        ("mem", "4096M", "4G", "4095M"),
        ("mem-per-cpu", "1024", "1Gi", "1023"),
        ("partition", "a,b", "b, a", "a"),
        ("gres", "gpu:1,fpga:2", "fpga:2,gpu:1", "gpu:2,fpga:1"),
        ("time", "60", "1:00:00", "1:00"),
        ("time", "1-12", "2160", "12"),
        ("time", "2", "1:01", "2:01"),
        ("time", "0-1:30", "01:30:00", "1:30"),
        ("exclusive", "", "true", "user"),
        ("mail-type", "END,FAIL", "fail,end", "END"),
        ("qos", "high", " high ", "low"),
    ],
)
def test_another_spelling_of_a_lock_is_no_other_wish(
    name: str, lock: str, same: str, other: str
) -> None:
    policy = RequestPolicy(locks={name: lock})
    assert policy_problems(policy) == []
    key = f"slurmlet.io/{name}"
    assert options(pod(annotations={key: same}), policy)[name] == lock
    (error,) = translate(pod(annotations={key: other}), policy).errors
    assert f"but the site gives every pod --{name}" in error


def test_a_list_of_nodes_is_compared_as_it_is_written() -> None:
    policy = RequestPolicy(locks={"nodelist": "a[1,2],b[3,4]"})
    other = pod(annotations={"slurmlet.io/flags": "-w a[1,4],b[3,2]"})
    assert translate(other, policy).errors != ()


def test_a_lock_that_is_wrong_is_no_crash() -> None:
    policy = RequestPolicy(locks={"time": "soon"})
    assert translate(pod(annotations={"slurmlet.io/time": "5"}), policy).errors != ()


def test_the_sites_own_mistakes_are_named() -> None:
    assert policy_problems(LOCKED) == []
    wrong = RequestPolicy(options={"uid": "0"}, locks={"time": "soon"})
    first, second = policy_problems(wrong)
    assert first.startswith("request.options.uid: option --uid is not allowed")
    assert second == "request.locks.time: value 'soon' is not valid for --time; see sbatch(1)"


def test_an_extended_resource_that_slurm_does_not_know_is_refused() -> None:
    wanting = container(None, {"example.org/fpga": 1, "hugepages-2Mi": "4Mi"})
    (error,) = translate(pod(wanting), POLICY).errors
    assert error == (
        "spec.containers[c].resources example.org/fpga, hugepages-2Mi: no resource of this site,"
        " which has nvidia.com/gpu; remove it, or say what to ask of Slurm with the annotation"
        " slurmlet.io/gres"
    )
    said = pod(wanting, annotations={"slurmlet.io/gres": "fpga:1"})
    assert options(said)["gres"] == "fpga:1"
    mapped = RequestPolicy(gres={"example.org/fpga": "fpga", "hugepages-2Mi": "hp"})
    assert options(pod(wanting), mapped)["gres"] == "fpga:1,hp:4194304"


def test_two_ways_of_saying_one_thing_do_not_meet() -> None:
    per_cpu = options(pod(annotations={"slurmlet.io/mem-per-cpu": "1G"}))
    assert "mem" not in per_cpu
    gpus = options(
        pod(container(None, {"nvidia.com/gpu": 1}), annotations={"slurmlet.io/gpus": "a100:1"})
    )
    assert "gres" not in gpus


@pytest.mark.claim("W88")
@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        (
            {"slurmlet.io/mem": "4G", "slurmlet.io/mem-per-cpu": "1G"},
            (
                "annotation slurmlet.io/mem-per-cpu: --mem-per-cpu=1G, but annotation"
                " slurmlet.io/mem has --mem=4G; remove it"
            ),
        ),
        (
            {"slurmlet.io/flags": "--mem=4G", "slurmlet.io/mem-per-cpu": "1G"},
            (
                "annotation slurmlet.io/mem-per-cpu: --mem-per-cpu=1G, but annotation"
                " slurmlet.io/flags has --mem=4G; remove it"
            ),
        ),
        (
            {"ns.slurmlet.io/flags": "--mem-per-cpu=1G --mem=4G"},
            (
                "annotation ns.slurmlet.io/flags: --mem-per-cpu=1G, but annotation"
                " ns.slurmlet.io/flags has --mem=4G; remove it"
            ),
        ),
        (
            {"slurmlet.io/gres": "fpga:1,gpu:a100:1", "slurmlet.io/gpus": "2"},
            (
                "annotation slurmlet.io/gpus: --gpus=2, but annotation slurmlet.io/gres has"
                " --gres=fpga:1,gpu:a100:1; remove it"
            ),
        ),
    ],
)
def test_what_is_said_in_two_ways_at_once_is_refused(
    annotations: dict[str, str], said: str
) -> None:
    assert translate(pod(annotations=annotations), POLICY).errors == (said,)


@pytest.mark.parametrize("gres", ["fpga:1", "gpu_memory:1", "none"])
def test_other_generic_resources_may_be_beside_gpus(gres: str) -> None:
    found = options(pod(annotations={"slurmlet.io/gres": gres, "slurmlet.io/gpus": "2"}))
    assert (found["gres"], found["gpus"]) == (gres, "2")


def test_a_pod_may_say_otherwise_than_its_namespace() -> None:
    both = {"ns.slurmlet.io/mem-per-cpu": "1G", "slurmlet.io/mem": "4G"}
    assert options(pod(annotations=both)) == {"cpus-per-task": "1", "mem": "4G"}


@pytest.mark.parametrize(
    ("init", "main", "wanted"),
    [
        ([], ["1"], "1"),
        ([container({"cpu": "4"})], ["1"], "4"),
        ([container({"cpu": "4"}), container({"cpu": "3"})], ["5"], "5"),
        ([sidecar(cpu="2")], ["1"], "3"),
        ([sidecar(cpu="2"), container({"cpu": "4"})], ["1"], "6"),
        ([container({"cpu": "4"}), sidecar(cpu="2")], ["1"], "4"),
        ([container({"cpu": "4"}), sidecar(cpu="2")], ["3"], "5"),
    ],
)
def test_init_containers_and_sidecars(init: list[Any], main: list[str], wanted: str) -> None:
    spec = pod(*(container({"cpu": cpu}) for cpu in main), initContainers=init)["spec"]
    assert effective_resources(spec, "requests")["cpu"] == Fraction(wanted)


def test_pod_level_resources_and_overhead() -> None:
    spec = pod(
        container({"cpu": "1", "memory": "1Gi"}),
        resources={"requests": {"cpu": "3"}},
        overhead={"cpu": "500m"},
    )["spec"]
    found = effective_resources(spec, "requests")
    assert found == {"cpu": Fraction(7, 2), "memory": Fraction(2**30)}


def test_overhead_is_added_to_the_sites_default_of_what_a_pod_does_not_name() -> None:
    overhead = {"cpu": "250m", "memory": "120Mi"}
    assert options(pod(overhead=overhead), RequestPolicy()) == {
        "cpus-per-task": "2",
        "mem": "440M",
    }
    only_cpu = options(pod(container({"cpu": "500m"}), overhead=overhead), RequestPolicy())
    assert only_cpu == {"cpus-per-task": "1", "mem": "440M"}
    of_the_namespace = pod(annotations={"ns.slurmlet.io/mem": "2G"}, overhead=overhead)
    assert options(of_the_namespace)["mem"] == "2G"


def test_a_quantity_that_cannot_be_read_is_an_error_and_not_a_crash() -> None:
    translation = translate(pod(container({"cpu": "many"})), POLICY)
    assert "'many'" in translation.errors[0]
    assert translation.errors[0].startswith("spec.containers[*].resources")


@pytest.mark.parametrize(("value", "wanted"), [(None, 30), (0, 0), (5, 5), (10**9, 65535)])
def test_grace(value: int | None, wanted: int) -> None:
    assert grace_seconds(pod(terminationGracePeriodSeconds=value)) == wanted


def request(**changes: Any) -> JobRequest:
    fields = {
        "namespace": "alice",
        "pod": "web-0",
        "uid": "0e6b9e5c-1111-2222-3333-444455556666",
        "attempt": 1,
        "options": {"mem": "64M", "exclusive": ""},
    }
    return JobRequest(**{**fields, **changes})


def test_the_argument_list_of_sbatch() -> None:
    assert sbatch_argv(request(), cluster="lab", boot_output="/state/%j.boot") == [
        "--parsable",
        "--no-requeue",
        "--export=ALL",
        "--propagate=NONE",
        "--chdir=/",
        "--input=/dev/null",
        "--output=/state/%j.boot",
        "--job-name=0e6b9e5c/alice/web-0",
        "--comment=slurmlet:lab:alice/web-0:0e6b9e5c-1111-2222-3333-444455556666:1",
        "--signal=B:USR1@30",
        "--exclusive",
        "--mem=64M",
        "--nodes=1",
        "--ntasks=1",
    ]


def test_a_grace_of_nothing_is_still_a_signal_that_slurm_accepts() -> None:
    argv = sbatch_argv(request(grace_seconds=0), cluster="lab", boot_output="x")
    assert "--signal=B:USR1@1" in argv


QUANTITIES = st.sampled_from(["0", "1", "250m", "1500m", "3", "64Mi", "1Gi", "1e3"])
CONTAINERS = st.builds(
    lambda requests, limits, restart: container(requests, limits, restartPolicy=restart),
    st.dictionaries(st.sampled_from(["cpu", "memory"]), QUANTITIES),
    st.dictionaries(st.sampled_from(["cpu", "memory"]), QUANTITIES),
    st.sampled_from([None, "Always"]),
)
ANNOTATIONS = st.dictionaries(
    st.sampled_from(["slurmlet.io/flags", "slurmlet.io/time", "slurmlet.io/mem", "x"]),
    st.text(max_size=20) | st.sampled_from(["--time=5", "10", "1G", "--uid=0"]),
)


@given(st.lists(CONTAINERS, min_size=1, max_size=3), st.lists(CONTAINERS, max_size=3), ANNOTATIONS)
def test_every_job_gets_memory_a_cpu_and_one_argument_per_option(
    main: list[Any], init: list[Any], annotations: dict[str, str]
) -> None:
    translation = translate(pod(*main, initContainers=init, annotations=annotations), POLICY)
    found = translation.options
    assert int(found["cpus-per-task"]) >= 1
    assert "mem" in found
    argv = sbatch_argv(request(options=found), cluster="lab", boot_output="x")
    assert all(argument.startswith("--") for argument in argv)
    names = [argument.partition("=")[0] for argument in argv]
    assert len(names) == len(set(names))
    assert not any(name in names for name in ("--uid", "--wrap", "--gid"))


@given(st.lists(CONTAINERS, min_size=1, max_size=4))
def test_a_pod_asks_for_no_less_than_its_containers_do_together(main: list[Any]) -> None:
    total = effective_resources(pod(*main)["spec"], "requests")
    for name, value in total.items():
        single = [effective_resources(pod(one)["spec"], "requests").get(name, 0) for one in main]
        assert value == sum(single)


@pytest.mark.claim("V10")
@pytest.mark.parametrize(
    "item",
    [
        pod(container()),
        pod(container(), annotations={"slurmlet.io/partition": "debug"}),
        pod(container(), annotations={"slurmlet.io/partition": "cpu,debug"}),
        pod(container(), annotations={"ns.slurmlet.io/partition": "cpu"}),
        pod(container(), nodeSelector={"slurmlet.io/partition": "debug"}),
    ],
)
def test_a_pod_on_a_partitions_node_gets_that_partition(item: Any) -> None:
    found = translate(item, RequestPolicy(options={"partition": "cpu"}), partition="debug")
    assert found.errors == ()
    assert found.options["partition"] == "debug"


@pytest.mark.claim("V10")
@pytest.mark.parametrize(
    ("item", "where"),
    [
        (
            pod(container(), annotations={"slurmlet.io/partition": "cpu"}),
            "annotation slurmlet.io/partition: --partition=cpu",
        ),
        (
            pod(container(), annotations={"slurmlet.io/flags": "-p cpu,gpu"}),
            "annotation slurmlet.io/flags: --partition=cpu,gpu",
        ),
        (
            pod(container(), nodeSelector={"slurmlet.io/partition": "gpu"}),
            "spec.nodeSelector[slurmlet.io/partition]: --partition=gpu",
        ),
    ],
)
def test_a_pod_that_names_another_partition_than_its_nodes_is_refused(
    item: Any, where: str
) -> None:
    (said,) = translate(item, RequestPolicy(), partition="debug").errors
    assert said == (
        f"{where}, but the pod's node is partition debug; remove it, or choose the node by"
        " spec.nodeSelector[slurmlet.io/partition]"
    )
