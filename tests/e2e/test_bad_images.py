"""Images that cannot be had: the reason is on the pod, and nobody else notices."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.e2e import badregistry, bystander, pods
from tests.e2e.badregistry import ADDRESS, PASSWORD, USER, BadRegistry
from tests.e2e.bystander import Bystander, container, events, pod, wait_for, wait_for_events
from tests.e2e.conftest import Lab

LAB = "registry.lab:5000"
ABSENT = {
    "repository": (f"{LAB}/no/such:1", "manifest unknown"),
    "tag": (f"{LAB}/busybox:0", "manifest unknown"),
    "digest": (f"{LAB}/busybox@sha256:{'0' * 64}", "manifest unknown"),
    "registry": ("registry.lab:5998/busybox:1", "connection refused"),
    "host": ("nowhere.invalid/busybox:1", "nowhere.invalid"),
}
ODD = {
    "dash": "-rm",
    "option": "--authfile=/etc/passwd",
    "transport": "dir:/etc",
    "shell": "$(touch /tmp/bi)",
    "list": f"{LAB}/busybox;touch /tmp/bi",
    "path": "../../etc",
    "capitals": f"{LAB}/Busybox:1",
    "digest": f"{LAB}/busybox@sha256:0123",
}
CACHE = ".cache/slurmlet/images"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    lab: Lab
    registry: BadRegistry
    bystander: Bystander


def docker_secret(name: str, auths: Any) -> dict[str, Any]:
    data = base64.b64encode(json.dumps({"auths": auths}).encode()).decode()
    kind = "kubernetes.io/dockerconfigjson"
    return bystander.secret(name, type=kind, **{".dockerconfigjson": data})


def says(name: str, image: str, **fields: Any) -> dict[str, Any]:
    return container(name, "echo", "came", image=image, **fields)


def private(name: str, registry: BadRegistry, *secrets: str) -> dict[str, Any]:
    pulls = [{"name": item} for item in secrets]
    always = says("main", registry.image("private"), imagePullPolicy="Always")
    return pod(name, always, imagePullSecrets=pulls)


@pytest.fixture(scope="module")
def world(lab: Lab) -> Iterator[World]:
    with badregistry.serving(lab) as registry:
        good = registry.digests["lie"]
        objects = [
            pod(
                "bi-absent",
                *(says(name, image) for name, (image, _) in ABSENT.items()),
                container("fine", "sleep", "1000"),
            ),
            pod("bi-odd", *(says(name, image) for name, image in ODD.items())),
            pod("bi-never", says("main", registry.image("good"), imagePullPolicy="Never")),
            pod("bi-cut", says("main", registry.image("cut"))),
            pod("bi-lie", says("main", f"{ADDRESS}/lie@{good}")),
            pod("bi-rot", says("main", registry.image("rot"))),
            private("bi-anonymous", registry),
            private("bi-later", registry, "bi-late"),
            private("bi-malformed", registry, "bi-bad", "bi-opaque"),
            docker_secret("bi-bad", {ADDRESS: {"auth": PASSWORD}}),
            bystander.secret("bi-opaque", note="eA=="),
        ]
        lab.kubectl("alice", "delete", "secret", "bi-late", "--ignore-not-found")
        with bystander.created(lab, "bi-bystander", objects) as beside:
            yield World(lab=lab, registry=registry, bystander=beside)
        lab.kubectl("alice", "delete", "secret", "bi-late", "--ignore-not-found")


def left_in_cache(lab: Lab, digest: str) -> list[str]:
    """What there is of an image, whole or half."""
    argv = ["find", CACHE, "-maxdepth", "2", "-name", f"{digest.removeprefix('sha256:')}*"]
    found = lab.run("ctl", argv, user="alice").stdout.splitlines()
    return sorted(line.removeprefix(f"{CACHE}/").split("/")[0] for line in found)


@pytest.mark.claim("B16")
@pytest.mark.timeout(400)
def test_a_pull_secret_is_used_when_it_comes_and_named_when_it_is_bad(world: World) -> None:
    """First of all, while the pulls' back-off is short."""
    lab = world.lab
    for name in ("bi-anonymous", "bi-later", "bi-malformed"):
        message = wait_for(lab, name, "main", reason="ImagePullBackOff")["main"]
        assert "unauthorized" in message.lower(), message
    reason = "FailedToRetrieveImagePullSecret"
    unable = "Unable to use some image pull secrets: "
    wait_for_events(lab, "bi-later", (reason, f'{unable}image pull secret "bi-late" not found'))
    wait_for_events(
        lab,
        "bi-malformed",
        (reason, f"image pull secret \"bi-bad\" has no user and password for '{ADDRESS}'"),
        (reason, 'image pull secret "bi-opaque" has no key .dockerconfigjson'),
    )
    assert reason not in dict(events(lab, "bi-anonymous"))
    uid = pods.get(lab, "bi-later")["metadata"]["uid"]
    late = docker_secret("bi-late", {ADDRESS: {"username": USER, "password": PASSWORD}})
    lab.kubectl("alice", "create", "-f", "-", input=json.dumps(late))
    wait_for(lab, "bi-later", "main", reason="Completed")
    assert pods.get(lab, "bi-later")["metadata"]["uid"] == uid
    everything = lab.kubectl("alice", "get", "pods,events", "-o", "json").stdout
    assert PASSWORD not in everything


@pytest.mark.claim("B1")
@pytest.mark.timeout(400)
def test_an_image_that_does_not_exist_is_told_as_kubelet_tells_it(world: World) -> None:
    told = wait_for(world.lab, "bi-absent", *ABSENT, reason="ImagePullBackOff")
    for name, (image, words) in ABSENT.items():
        message = told[name]
        assert message.startswith(f'Back-off pulling image "{image}": ErrImagePull: ')
        assert words in message
    image = ABSENT["tag"][0]
    wait_for_events(
        world.lab,
        "bi-absent",
        ("Pulling", f'Pulling image "{image}"'),
        ("Failed", f'Failed to pull image "{image}": '),
        ("Failed", "Error: ErrImagePull"),
        ("BackOff", f'Back-off pulling image "{image}"'),
    )
    # The container beside them has its image.
    assert bystander.states(world.lab, "bi-absent")["fine"][0] == "running"


@pytest.mark.claim("B2")
def test_a_name_that_looks_like_an_option_or_a_command_is_no_image(world: World) -> None:
    told = wait_for(world.lab, "bi-odd", *ODD, reason="InvalidImageName")
    assert told == {
        name: f"couldn't parse image name {image!r}: invalid reference format"
        for name, image in ODD.items()
    }
    for node in ("ctl", "c1", "c2"):
        assert world.lab.run(node, ["test", "-e", "/tmp/bi"], check=False).returncode == 1


@pytest.mark.claim("B3")
@pytest.mark.timeout(300)
def test_a_pull_that_breaks_off_is_repeated(world: World) -> None:
    """Its layer broke off CUTS times, then the registry was well again."""
    wait_for(world.lab, "bi-cut", "main", reason="Completed")
    again = f'Successfully pulled image "{world.registry.image("cut")}"'
    wait_for_events(world.lab, "bi-cut", ("Failed", "EOF"), ("Pulled", again))
    assert world.lab.kubectl("alice", "logs", "bi-cut").stdout == "came\n"
    assert left_in_cache(world.lab, world.registry.digests["cut"]) == ["images", "locks"]


@pytest.mark.claim("B4")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["lie", "rot"])
def test_content_that_is_not_what_its_digest_says_is_not_used(world: World, name: str) -> None:
    message = wait_for(world.lab, f"bi-{name}", "main", reason="ImagePullBackOff")["main"]
    assert "does not match" in message.lower().replace("did not", "does not"), message
    assert "images" not in left_in_cache(world.lab, world.registry.digests[name])
    assert world.lab.kubectl("alice", "logs", f"bi-{name}", check=False).stdout == ""


@pytest.mark.claim("B15")
def test_an_image_that_is_never_pulled_must_be_there(world: World) -> None:
    message = wait_for(world.lab, "bi-never", "main", reason="ErrImageNeverPull")["main"]
    image = world.registry.image("good")
    assert message == f'Container image "{image}" is not present with pull policy of Never'


@pytest.mark.claim("B17")
def test_agent_and_others_do_not_notice_images(world: World) -> None:
    assert world.bystander.now() == world.bystander.before
