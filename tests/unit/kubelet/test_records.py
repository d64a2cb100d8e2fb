"""What is written on pods is a hint: their authors can write there, too."""

from tests.unit.kubelet.fakes import UID, pod

from slurmlet.kubelet.records import Records

OTHER = UID.replace("1", "2")


def written(job: str, *, uid: str = UID) -> dict[str, object]:
    return pod(uid=uid, metadata={"annotations": {"status.slurmlet.io/job-id": job}})


def test_the_job_of_a_pod_is_read_from_it() -> None:
    assert Records().of(written("101")).job_id == 101
    assert Records(journalled={101: UID}).of(written("101")).job_id == 101


def test_a_pod_takes_no_job_away_from_another() -> None:
    records = Records()
    assert records.of(written("101")).job_id == 101
    assert records.of(written("101", uid=OTHER)).job_id is None
    owner = records.owner(101)
    assert owner is not None
    assert owner.uid == UID


def test_nor_is_it_first_after_a_restart() -> None:
    records = Records(journalled={101: UID})
    assert records.of(written("101", uid=OTHER)).job_id is None
    assert records.of(written("101")).job_id == 101


def test_what_is_no_job_is_none() -> None:
    for text in ("", "0", "-1", "x", "9" * 5000):
        assert Records().of(written(text)).job_id is None
