"""Names of images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.supervisor.imagename import ImageNameError, parse_image_name, pull_policy

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.37", "docker.io/library/busybox:1.37"),
        ("bitnami/redis", "docker.io/bitnami/redis:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("registry.lab:5000/a/b:1", "registry.lab:5000/a/b:1"),
        ("localhost/x", "localhost/x:latest"),
        ("Registry/x", "Registry/x:latest"),
        ("quay.io/a/b_c-d.e:v1", "quay.io/a/b_c-d.e:v1"),
        (f"quay.io/a@{DIGEST}", f"quay.io/a@{DIGEST}"),
        (f"quay.io/a:1@{DIGEST}", f"quay.io/a@{DIGEST}"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
    ],
)
def test_normalised_as_docker_does(text: str, reference: str) -> None:
    assert parse_image_name(text).reference() == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-x",
        "--help",
        "a b",
        "Busybox",
        "a:",
        "a:b:c",
        "a@sha256:12",
        "../a",
        "/a",
        "a//b",
        "a\n",
        "quay.io/",
        "docker://a",
        "a:tag\n",
        "x" * 600,
        "quay.io/a;id",
    ],
)
def test_what_names_no_image(text: str) -> None:
    with pytest.raises(ImageNameError, match="couldn't parse image name"):
        parse_image_name(text)


@given(st.text(max_size=40))
def test_any_text_is_refused_or_safe(text: str) -> None:
    try:
        reference = parse_image_name(text).reference()
    except ImageNameError:
        return
    assert not reference.startswith("-")
    assert reference.isascii()
    assert not set(reference) & set(" \t\n'\"`$;&|<>\\")
    # Normalising is done once.
    assert parse_image_name(reference).reference() == reference


@pytest.mark.parametrize(
    ("policy", "text", "effective"),
    [
        (None, "a", "Always"),
        (None, "a:latest", "Always"),
        (None, "a:1", "IfNotPresent"),
        (None, f"a@{DIGEST}", "IfNotPresent"),
        ("Never", "a", "Never"),
        ("Always", "a:1", "Always"),
    ],
)
def test_pull_policy(policy: str | None, text: str, effective: str) -> None:
    assert pull_policy(policy, parse_image_name(text)) == effective
