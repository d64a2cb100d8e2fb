"""Names of images. No I/O."""

import re
from dataclasses import dataclass

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"(?::[0-9]{1,5})?|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_LENGTH = 512
DOCKER_HUB = "docker.io"


class ImageNameError(ValueError):
    """Text that names no image; the message is for the pod's author."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageName:
    """A normalised name; a digest wins over a tag."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    def reference(self) -> str:
        """REGISTRY/REPOSITORY:TAG or @DIGEST."""
        return f"{self.registry}/{self.repository}" + (
            f"@{self.digest}" if self.digest else f":{self.tag}"
        )

    def pinned(self, digest: str) -> str:
        """The same repository by digest."""
        return f"{self.registry}/{self.repository}@{digest}"


def parse_image_name(text: str) -> ImageName:
    """The image that a pod's `image` means, by Docker's rules (busybox = docker.io/library/…).

    Raises:
        ImageNameError: it is no name of an image.
    """
    problem = f"couldn't parse image name {text[:80]!r}: invalid reference format"
    if len(text) > _MAX_LENGTH:
        raise ImageNameError(problem)
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ImageNameError(problem)
    head, slash, tail = rest.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost" or head != head.lower()):
        registry, path = head, tail
    else:
        registry, path = DOCKER_HUB, rest
    path, colon, tag = path.partition(":")
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    if not _DOMAIN.fullmatch(registry) or not _PATH.fullmatch(path):
        raise ImageNameError(problem)
    if colon and not _TAG.fullmatch(tag):
        raise ImageNameError(problem)
    return ImageName(
        registry=registry,
        repository=path,
        tag=tag or ("" if digest else "latest"),
        digest=digest,
    )


def pull_policy(container_policy: str | None, name: ImageName) -> str:
    """The effective imagePullPolicy: as given, else Always for the tag latest."""
    if container_policy:
        return container_policy
    return "Always" if name.tag == "latest" and not name.digest else "IfNotPresent"
