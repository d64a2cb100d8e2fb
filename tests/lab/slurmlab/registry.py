"""The registry's storage, filled with the test images."""

from collections.abc import Callable
from pathlib import Path

from slurmlab.image import Image


def storage(image: Image, *, say: Callable[[str], None]) -> tuple[Path, ...]:
    """Return overlay layers that hold the registry's storage under /var/lib/docker-registry."""
    return ()
