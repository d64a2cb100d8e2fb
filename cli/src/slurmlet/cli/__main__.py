"""slurmlet doctor: says what on this node is in the way of pods."""

import argparse
import sys
from collections.abc import Sequence
from ipaddress import ip_address

from slurmlet.cli import doctor
from slurmlet.contracts.names import CONFIG_FILE


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 1 if there is a problem."""
    options = _parser().parse_args(arguments)
    found = doctor.examine(config=options.config, dns=options.dns, servers=options.nfs)
    for finding in found:
        print(finding)
    problems = sum(finding.problem for finding in found)
    print(f"{problems} problems" if problems else "no problem found")
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="slurmlet", description="Pods on a Slurm cluster.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    text = (
        "say what on this node is in the way of pods, a line each with the remedy; run it as root"
    )
    command = commands.add_parser("doctor", help=text, description=text)
    command.add_argument("--config", default=CONFIG_FILE, help=f"default: {CONFIG_FILE}")
    command.add_argument(
        "--dns",
        action="append",
        type=lambda text: str(ip_address(text)),
        metavar="ADDRESS",
        help="a DNS server that pods use; default: those of this host's configuration",
    )
    command.add_argument(
        "--nfs",
        action="append",
        default=[],
        metavar="HOST",
        help="an NFS server whose exports to ask for, beside those that this node mounts",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
