"""The `[cluster]` table of slurmlet.toml: what all components of one installation share."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """`name` tells apart installations that share a Slurm.

    The directories are templates over {home}, {user} and {cluster}; both are made and used by the
    pod's user.
    """

    name: str
    state_dir: str = "{home}/.slurmlet/{cluster}"
    image_cache: str = "{home}/.cache/slurmlet/images"


def user_dir(template: str, *, cluster: str, user: str, home: str) -> str:
    """A directory template with its variables filled in."""
    return template.format(home=home, user=user, cluster=cluster)
