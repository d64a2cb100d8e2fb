"""The command line of `./lab`."""

import argparse
import os
import sys
from collections.abc import Sequence

from slurmlab import host, node, status, sync, verify
from slurmlab import lab as labs
from slurmlab.errors import LabError
from slurmlab.image import SUITES
from slurmlab.names import Lab, node_named

DEFAULT_NAME = "dev"


def parser() -> argparse.ArgumentParser:
    """Return the parser for all commands."""
    top = argparse.ArgumentParser(
        prog="./lab", description="A small HPC centre of booted nodes with real Slurm."
    )
    default = os.environ.get("SLURMLET_LAB") or DEFAULT_NAME
    which = f"which lab (default: $SLURMLET_LAB, else {DEFAULT_NAME})"
    top.add_argument("--name", default=default, help=which)
    commands = top.add_subparsers(dest="command", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--name", default=argparse.SUPPRESS, help=which)
        return command

    up = add("up", "build what is missing, boot the nodes, roll slurmlet out")
    up.add_argument("--no-rollout", action="store_true", help="boot only: Slurm without slurmlet")
    image = add("image", "build what `up` needs, or find it in the cache")
    image.add_argument("--no-rollout", action="store_true", help="only what boots, not slurmlet")
    for command in (up, image):
        command.add_argument(
            "--slurm",
            choices=SUITES,
            default=os.environ.get("SLURMLET_LAB_SLURM") or None,
            help="Debian suite whose Slurm nodes run (default: $SLURMLET_LAB_SLURM, else trixie)",
        )
    add("down", "remove the lab and everything that it made")
    add("status", "show nodes and services; fails when the lab is not complete")
    add("verify", "check that everything works, one line per check")
    add("sync", "copy changed Python files to the nodes and restart what uses them")
    shell = add("shell", "open a shell on a node")
    shell.add_argument("node")
    shell.add_argument("--user", default="root")
    execute = add("exec", "run what follows -- on a node; its exit status is passed on")
    execute.add_argument("node", help="ctl, c1 or c2")
    execute.add_argument("--user", default="root")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    split = words.index("--") if "--" in words else len(words)
    arguments = parser().parse_args(words[:split])
    try:
        return _dispatch(arguments, words[split + 1 :])
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _dispatch(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    lab = Lab(name=arguments.name)
    if arguments.command == "up":
        labs.up(lab, suite=arguments.slurm, roll_out=not arguments.no_rollout)
    elif arguments.command == "image":
        labs.build(suite=arguments.slurm, roll_out=not arguments.no_rollout)
    elif arguments.command == "down":
        labs.down(lab)
    elif arguments.command in ("status", "verify", "sync"):
        host.check()
        {"status": status.show, "verify": verify.verify, "sync": sync.sync}[arguments.command](lab)
    elif arguments.command == "shell":
        _enter(lab, arguments.node, ["/bin/bash", "-i"], user=arguments.user)
    elif arguments.command == "exec":
        if not words:
            raise LabError("exec: say what to run after --")
        _enter(lab, arguments.node, words, user=arguments.user)
    return 0


def _enter(lab: Lab, name: str, argv: Sequence[str], *, user: str) -> None:
    """Replace this process by the command in the node."""
    words = node.enter_argv(lab, node_named(name), argv, user=user)
    os.execvp(words[0], words)
