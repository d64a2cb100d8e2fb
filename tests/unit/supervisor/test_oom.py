"""Finding the kernel's counter of processes killed for memory."""

from pathlib import Path

from slurmlet.supervisor.oom import OomCounter, counter_file

V1 = "4:memory:/../../lab/c1/slurm_c1/job_7/step_batch/task_0\n1:cpu:/\n0::/system.slice\n"
V1_MOUNTS = (
    "3556 3536 0:32 /../../lab/c1 /cg1/memory rw,relatime shared:639 - cgroup cgroup rw,memory\n"
    "1153 3538 0:38 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw\n"
)


def test_cgroup_v1_below_a_bind_mount() -> None:
    found = counter_file(V1, mounts=V1_MOUNTS)
    assert found == Path("/cg1/memory/slurm_c1/job_7/step_batch/task_0/memory.oom_control")


def test_cgroup_v2() -> None:
    mounts = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
    found = counter_file("0::/system.slice/slurmstepd.scope/job_7/step_batch\n", mounts=mounts)
    assert found == Path(
        "/sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/step_batch/memory.events"
    )


def test_none() -> None:
    assert counter_file("1:cpu:/\n", mounts=V1_MOUNTS) is None
    assert counter_file(V1, mounts="25 1 0:5 / /proc rw - proc proc rw\n") is None


def test_the_count(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/job\n")
    (tmp_path / "mountinfo").write_text(f"1 1 0:1 / {tmp_path} rw - cgroup2 c rw\n")
    (tmp_path / "job").mkdir()
    events = tmp_path / "job/memory.events"
    events.write_text("oom 3\noom_kill 2\noom_group_kill 0\n")
    counter = OomCounter(proc=tmp_path)
    assert counter.read() == 2
    events.unlink()
    assert counter.read() == 0
    assert OomCounter(proc=tmp_path / "nothing").read() == 0
