"""Users, homes and identity maps that are wrong: each pod says why, nobody else is harmed."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from tests.e2e import people, pods
from tests.e2e.conftest import Lab
from tests.e2e.people import NODES, QUICK, Bystander, Person, is_in, wait

pytestmark = [pytest.mark.disruptive, pytest.mark.timeout(300)]

LABEL = ("slurmlet-test", "bad-identities")
OWN = "install -d -o $U -m 0700 $H"
TMPFS = f"{OWN}; mount -t tmpfs -o size=SIZE,uid=$(id -u $U),mode=0700 none $H"
FULL = TMPFS.replace("SIZE", "64k") + "; dd if=/dev/zero of=$H/all bs=4k count=16 status=none"

PEOPLE = [
    Person(name="t-nologin", uid=3101, shell="/usr/sbin/nologin"),
    Person(name="t-noaccount", uid=3102, account=False),
    Person(name="t-nohome", uid=3103, home=":"),
    Person(name="t-foreign", uid=3104, home="install -d -m 0755 $H"),
    Person(
        name="t-readonly",
        uid=3105,
        home=TMPFS.replace("SIZE", "64k,ro"),
    ),
    Person(name="t-full", uid=3106, home=FULL),
    Person(name="t-small", uid=3107, home=TMPFS.replace("SIZE", "512k"), home_on=NODES),
    Person(name="t-open", uid=3108, home="install -d -o $U -m 0777 $H"),
    Person(name="t-link", uid=3109, home="install -d -o $U -m 0700 $H.real; ln -sfn $H.real $H"),
    # Compute nodes see the directory below the mount, which is root's.
    Person(name="t-away", uid=3110, home=TMPFS.replace("SIZE", "1m").replace(OWN, "mkdir -p $H")),
    Person(name="t-alias", uid=2002),
    Person(name="t-first", uid=3111),
    Person(name="t-second", uid=3112),
]
GHOST = Person(name="t-ghost", uid=3113)
USERS = {p.name: p.name for p in PEOPLE[:-2]} | {
    "t-ghost": "t-ghost",
    "t-daemon": "daemon",
    "t-moved": "t-first",
}
"""Namespace → user; a namespace has one pod, called `it`."""

MEND = {
    "t-nohome": "install -d -o t-nohome -m 0700 /home/t-nohome",
    "t-foreign": "chown t-foreign /home/t-foreign",
    "t-readonly": "umount /home/t-readonly",
    "t-full": "umount /home/t-full",
    "t-open": "chmod 0700 /home/t-open",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """`good` is the identity map with the users of these tests."""

    good: str
    bystander: Bystander


def entry(namespace: str, **keys: Any) -> str:
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    return f"\n[namespaces.{json.dumps(namespace)}]\n{lines}"


def labelled(item: dict[str, Any]) -> dict[str, Any]:
    item["metadata"]["labels"] = dict([LABEL])
    return item


def pod_of(namespace: str) -> dict[str, Any]:
    policy = "Always" if namespace == "t-alias" else "Never"
    item = labelled(pods.manifest("it", "id", "-u", restartPolicy=policy, **QUICK))
    return people.in_namespace(namespace, item)


def moving() -> list[dict[str, Any]]:
    """A pod that runs and one whose job waits, of a namespace that changes its user."""
    sleep = pods.manifest("running", "sh", "-c", "id -u; sleep 3600", **QUICK)
    later = {"slurmlet.io/begin": "now+1hour"}
    queued = pods.manifest("queued", "true", annotations=later, **QUICK)
    return [people.in_namespace("t-moved", labelled(item)) for item in (sleep, queued)]


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[Site]:
    before = people.keep_map(lab)
    try:
        bystander = people.start_bystander(lab, "bi-bystander")
        people.add_namespaces(lab, list(USERS))
        people.add(lab, PEOPLE)
        good = before + "".join(entry(namespace, user=user) for namespace, user in USERS.items())
        people.write_map(lab, good)
        people.wait_until_mapped(lab, "t-nologin")
        single = [pod_of(namespace) for namespace in USERS if namespace != "t-moved"]
        stopped = pods.manifest("bi-stopped", "sleep", "3600", **QUICK)
        stopped = people.in_namespace("bob", labelled(stopped))
        pods.create(lab, *single, *moving(), stopped, user="root")
        yield Site(good=good, bystander=bystander)
    finally:
        people.restore_map(lab)
        argv = ["delete", "pods", "-A", "-l", "=".join(LABEL), "--wait=false"]
        lab.kubectl("root", *argv, check=False)
        lab.kubectl("bob", "delete", "pod", "bi-bystander", "--wait=false", check=False)
        people.remove_namespaces(lab, list(USERS))
        people.remove(lab, [*PEOPLE, GHOST])


def says(lab: Lab, namespace: str, phase: str, *expected: str) -> None:
    """Wait until the pod of a namespace says all of this in its status, the last in an event."""
    key = f"{namespace}/it"
    there = is_in(key, phase)
    pod = wait(lab, key, lambda seen: there(seen) and seen.says(key, *expected))
    print(f"{namespace}: {people.words(pod)[:300]}")


def owner(lab: Lab, job: str) -> str:
    """Whose a job is; slurmdbd learns of it a moment after slurmctld."""
    rows = partial(pods.sacct, lab, job, "User")
    return pods.until(rows, bool, seconds=60, what=f"job {job} in sacct")[0][0]


def ended(lab: Lab, key: str) -> dict[str, Any]:
    return wait(lab, key, is_in(key, "Succeeded", "Failed"))


@pytest.mark.claim("B30")
def test_a_user_that_does_not_exist(lab: Lab, site: Site) -> None:
    says(
        lab,
        "t-ghost",
        "Pending",
        "SubmitBackOff",
        "user 't-ghost' does not exist here; the administrator has to make the user",
    )
    site.bystander.unharmed(lab)


@pytest.mark.claim("B33")
def test_homes_that_are_absent_or_cannot_be_written(lab: Lab, site: Site) -> None:
    for namespace, words in {
        "t-nohome": "/home/t-nohome does not exist on the head node; ask the administrator",
        "t-foreign": "/home/t-foreign cannot be written by its user; repair its owner and mode",
        "t-readonly": "/home/t-readonly is on a file system that is mounted read-only; ask the",
    }.items():
        says(lab, namespace, "Pending", "SubmitBackOff", f"directory {words}")
    site.bystander.unharmed(lab)


@pytest.mark.claim("B34")
def test_a_home_that_is_full(lab: Lab, site: Site) -> None:
    where = "directory /home/t-full/.slurmlet/lab/boot is on a full file system"
    says(lab, "t-full", "Pending", "SubmitBackOff", where, "remove files")
    site.bystander.unharmed(lab)


@pytest.mark.claim("B35")
def test_a_home_that_everybody_can_write(lab: Lab, site: Site) -> None:
    words = "directory /home/t-open can be written by everybody; use chmod o-w"
    says(lab, "t-open", "Pending", "SubmitBackOff", words)
    site.bystander.unharmed(lab)


@pytest.fixture(scope="module")
def mended(lab: Lab, site: Site) -> None:
    """Repairs users and homes and touches no pod; the next tests look while those wait."""
    people.on_nodes(lab, {"ctl": "set -e\n" + "\n".join(MEND.values())})
    people.add(lab, [GHOST])


@pytest.mark.claim("B31")
@pytest.mark.usefixtures("mended")
def test_users_that_may_run_nothing(lab: Lab, site: Site) -> None:
    who = "user 't-nologin' of namespace 't-nologin' may not log in (shell /usr/sbin/nologin)"
    says(lab, "t-nologin", "Failed", "SlurmRejected", f"{who}; ask the administrator")
    low = "has uid 1, below the least permitted 1000; ask the administrator"
    says(lab, "t-daemon", "Failed", "SlurmRejected", low)
    site.bystander.unharmed(lab)


@pytest.mark.claim("B32")
def test_a_user_without_an_account_in_slurm(lab: Lab, site: Site) -> None:
    remedy = "ask the administrator to add user t-noaccount to one (sacctmgr add user)"
    says(lab, "t-noaccount", "Failed", "SlurmRejected", "Invalid account", remedy)
    site.bystander.unharmed(lab)


@pytest.mark.claim("B34")
def test_a_home_without_room_for_an_image(lab: Lab, site: Site) -> None:
    room = "the image cache has no room left: remove files there or ask for more"
    says(lab, "t-small", "Pending", "ImagePull", "no space left on device", room)
    site.bystander.unharmed(lab)


@pytest.mark.claim("B35")
def test_a_home_behind_a_link(lab: Lab, site: Site) -> None:
    linked = ended(lab, "t-link/it")
    assert pods.phase(linked) == "Succeeded", people.words(linked)
    assert lab.kubectl("root", "logs", "it", "-n", "t-link").stdout == "0\n"
    site.bystander.unharmed(lab)


@pytest.mark.claim("B36")
def test_a_home_that_the_compute_node_has_not(lab: Lab, site: Site) -> None:
    pod = ended(lab, "t-away/it")
    assert pods.phase(pod) == "Failed"
    assert "could not open the job's files: the home directory of its user" in people.words(pod)
    assert "ask the administrator" in people.words(pod)
    site.bystander.unharmed(lab)


@pytest.mark.claim("B41")
def test_a_second_name_of_another_user_s_uid(lab: Lab, site: Site) -> None:
    words = "user 't-alias' of namespace 't-alias' has the uid of 'bob' and sharedTrust is not set"
    says(lab, "t-alias", "Pending", "SlurmRejected", words)
    site.bystander.unharmed(lab)


@pytest.mark.claim("B37")
@pytest.mark.usefixtures("mended")
def test_what_was_mended_starts_by_itself(lab: Lab, site: Site) -> None:
    for namespace in [*MEND, "t-ghost"]:
        done = ended(lab, f"{namespace}/it")
        assert pods.phase(done) == "Succeeded", people.words(done)
        assert owner(lab, pods.job_id(done)) == namespace
    site.bystander.unharmed(lab)


BROKEN = {
    "text": ("\n[namespaces.x\n", "not TOML", "at line"),
    "table-twice": (entry("alice", user="alice"), "not TOML", "namespaces"),
    "key-twice": (entry("x", user="x") + 'user = "y"\n', "not TOML", "Cannot overwrite a value"),
    "globs": (
        entry("x-*", user="x", sharedTrust=True) + entry("*-x", user="y", sharedTrust=True),
        "'x-*' and '*-x' are equally long",
        "make one of them longer",
    ),
    "unknown-key": (entry("x", user="x", acounts=[]), "namespaces.x", "acounts: unknown key"),
    "user": (entry("x", user="../x"), "namespaces.x.user", "'../x' is no Unix user name"),
    "shared-glob": (entry("x-*", user="x"), "namespaces.x-*.user", "set sharedTrust = true"),
    "shared-user": (
        entry("x", user="alice", sharedTrust=True),
        "'alice' is also the user of namespaces 'x'",
        "set sharedTrust = true",
    ),
    "writable": ("", "must belong to uid 0 and not be writable by others", "chmod 0644"),
}
"""What is added to a good map, and what is said of it."""

SHARED = ("shared-glob", "shared-user")


@pytest.mark.claim("B38")
@pytest.mark.parametrize("kind", [kind for kind in BROKEN if kind not in SHARED])
def test_a_broken_map_is_not_used_and_no_older_one(lab: Lab, site: Site, kind: str) -> None:
    broken(lab, site, kind)


@pytest.mark.claim("B39")
@pytest.mark.parametrize("kind", SHARED)
def test_a_map_in_which_users_are_shared_unsaid_is_broken(lab: Lab, site: Site, kind: str) -> None:
    broken(lab, site, kind)


def broken(lab: Lab, site: Site, kind: str) -> None:
    """Nothing is submitted by such a map; pod and journal say what is wrong."""
    addition, *expected = BROKEN[kind]
    people.write_map(lab, site.good + addition, mode="0666" if kind == "writable" else "0644")
    name = f"bi-{kind}"
    pods.create(lab, labelled(pods.manifest(name, "true", **QUICK)))

    key = f"alice/{name}"
    pod = wait(lab, key, lambda seen: seen.says(key, "SubmitBackOff", *expected), seconds=90)
    assert (pods.phase(pod), pods.job_id(pod)) == ("Pending", "")
    journal = ["journalctl", "--no-pager", "-o", "cat", "-u", "slurmlet-kubelet"]
    unit = ["-u", "slurmlet-broker", "--since", "-2min"]
    lines = lab.run("ctl", [*journal, *unit]).stdout.splitlines()
    assert any(expected[-1] in line and key in line for line in lines)
    print(f"{kind}: {people.words(pod)[:300]}")


@pytest.mark.claim("B40")
def test_pods_that_run_do_not_feel_a_broken_map_and_others_go_on_when_it_is_mended(
    lab: Lab, site: Site
) -> None:
    people.write_map(lab, "nothing of TOML")
    running = wait(lab, "bob/bi-stopped", is_in("bob/bi-stopped", "Running"))
    lab.kubectl("bob", "logs", "bi-bystander")
    lab.kubectl("bob", "delete", "pod", "bi-stopped", "--timeout=60s")
    assert pods.squeue(lab, pods.job_id(running)) in ("", "COMPLETED", "CANCELLED", "FAILED")
    site.bystander.unharmed(lab)

    people.write_map(lab, site.good)
    # The others have waited for so long that their next try is up to a minute away.
    waiting = [f"alice/bi-{kind}" for kind in list(BROKEN)[-3:]]
    for key in set(waiting) & set(people.look(lab).pods):
        done = ended(lab, key)
        assert pods.phase(done) == "Succeeded", people.words(done)
    site.bystander.unharmed(lab)


@pytest.mark.claim("B42")
def test_another_user_for_a_namespace_is_one_of_new_pods_only(lab: Lab, site: Site) -> None:
    keys = [f"t-moved/{name}" for name in ("running", "queued")]
    wait(lab, keys[0], is_in(keys[0], "Running"))
    old = [wait(lab, key, has_job(key)) for key in keys]
    moved = site.good.replace('user = "t-first"', 'user = "t-second"')
    assert moved != site.good
    people.write_map(lab, moved)
    fresh = pods.manifest("fresh", "true", **QUICK)
    pods.create(lab, people.in_namespace("t-moved", labelled(fresh)), user="root")
    done = ended(lab, "t-moved/fresh")
    assert owner(lab, pods.job_id(done)) == "t-second"

    still = wait(lab, keys[0], is_in(keys[0], "Running"), seconds=1)
    assert pods.job_id(still) == pods.job_id(old[0])
    assert lab.kubectl("root", "logs", "running", "-n", "t-moved").stdout == "0\n"
    lab.kubectl("root", "delete", "pod", "-n", "t-moved", "running", "queued", "--timeout=90s")
    for pod in old:
        job = pods.job_id(pod)
        rows = pods.until(
            partial(pods.sacct, lab, job, "User,State"),
            lambda found: bool(found) and found[0][1] not in ("PENDING", "RUNNING", "COMPLETING"),
            seconds=60,
            what=f"the end of job {job}",
        )
        assert rows[0][0] == "t-first"
        print(f"job {job} of t-first, whose namespace is t-second's now: {rows[0][1]}")
    site.bystander.unharmed(lab)


def has_job(key: str) -> Callable[[people.Seen], bool]:
    return lambda seen: key in seen.pods and bool(pods.job_id(seen.pods[key]))
