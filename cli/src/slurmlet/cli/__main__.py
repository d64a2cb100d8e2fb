"""slurmlet doctor: what on this node is in the way of pods. slurmlet audit: who ran them."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from ipaddress import ip_address

from slurmlet.cli import audit, doctor, witnesses
from slurmlet.contracts.names import CONFIG_FILE


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 1 if there is a problem."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.run
    return command(options)


def _doctor(options: argparse.Namespace) -> int:
    found = doctor.examine(config=options.config, dns=options.dns, servers=options.nfs)
    for finding in found:
        print(finding)
    problems = sum(finding.problem for finding in found)
    print(f"{problems} problems" if problems else "no problem found")
    return 1 if problems else 0


def _audit(options: argparse.Namespace) -> int:
    try:
        since, acts = witnesses.acts(days=options.days, further=options.unit)
        rows = witnesses.rows({act.job for act in acts})
        roots = witnesses.roots(since=since)
    except witnesses.SilentError as error:
        print(f"slurmlet audit: {error}", file=sys.stderr)
        return 2
    found = audit.pods(acts, rows)
    said = audit.judge(found, roots=roots)
    chosen = [pod for pod in found if options.pod in (None, pod.pod)]
    if options.json:
        print(json.dumps({"since": since, "pods": audit.plain(chosen), "problems": said}))
    else:
        print("\n".join([*audit.table(chosen), *(f"problem: {text}" for text in said)]))
        moment = datetime.fromtimestamp(since).isoformat(sep=" ", timespec="seconds")
        print(f"{len(found)} pods since {moment}, {len(said) or 'no'} problems")
    return 1 if said else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="slurmlet", description="Pods on a Slurm cluster.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    text = (
        "say what on this node is in the way of pods, a line each with the remedy; run it as root"
    )
    command = commands.add_parser("doctor", help=text, description=text)
    command.set_defaults(run=_doctor)
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
    text = "say from journal and sacct which job ran which pod; run it as root on the control host"
    command = commands.add_parser("audit", help=text, description=text)
    command.set_defaults(run=_audit)
    command.add_argument(
        "--unit",
        action="append",
        default=[],
        metavar="NAME.service",
        help="another unit in which an agent or a broker ran; may be repeated",
    )
    command.add_argument(
        "--days",
        type=float,
        default=7.0,
        help="how far to look back, at most as far as the journal",
    )
    command.add_argument("--pod", metavar="NAMESPACE/POD", help="list this pod only")
    command.add_argument("--json", action="store_true", help="one object instead of lines")
    return parser


if __name__ == "__main__":
    sys.exit(main())
