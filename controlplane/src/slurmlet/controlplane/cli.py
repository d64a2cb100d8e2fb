"""The command `slurmlet-controlplane`. Results go to stdout, progress and errors to stderr."""

import argparse
import functools
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from slurmlet.contracts.names import CONFIG_FILE
from slurmlet.controlplane import build, config, golang, layout, pki, run, units
from slurmlet.controlplane.binaries import BINARIES, CONTROL_PLANE, DEFAULT_SET
from slurmlet.controlplane.certificates import Request
from slurmlet.controlplane.errors import ControlPlaneError
from slurmlet.controlplane.store import Store

PROGRAM = "slurmlet-controlplane"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0, or 1 after one line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except ControlPlaneError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _build(options: argparse.Namespace) -> None:
    print(_binaries(options.names))


def _pki(options: argparse.Namespace) -> None:
    request = Request(sans=tuple(options.san), nodes=tuple(options.node), users=tuple(options.user))
    pki.check(request)
    site = config.load_if_there(options.config)
    if site:
        request = layout.named(request, site)
    store = Store(options.dir, owner=options.owner, dry=options.check)
    written = pki.ensure(
        store,
        request,
        server=options.server or pki.default_server(request),
        renew=options.action == "renew",
        renew_authorities=options.action == "renew" and options.ca,
        warn=_report,
    )
    for path in written:
        print(path)


def _units(options: argparse.Namespace) -> None:
    for line in units.ensure(config.load(options.config), options.dest, dry=options.check):
        print(line)


def _run(options: argparse.Namespace) -> None:
    ports = (
        options.port,
        options.etcd_port,
        options.etcd_peer_port,
        options.controller_manager_port,
    )
    request = Request(
        sans=(options.address, *options.san),
        nodes=tuple(options.node),
        users=tuple(options.user),
    )
    pki.check(request)
    local = run.local_config(
        options.dir.resolve(),
        bin_dir=_binaries(CONTROL_PLANE),
        address=options.address,
        ports=ports,
        fsync=not options.no_fsync,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # also while it is still starting
    with run.ControlPlane(local, request, report=_report) as plane:
        print(f"ready {plane.admin_conf}", flush=True)
        plane.run_until_signalled()


def _binaries(names: Sequence[str]) -> Path:
    cache = build.cache_root()
    find_go = functools.partial(golang.find, cache=cache, report=_report)
    return build.ensure(
        names, cache=cache, source=build.source_root(), find_go=find_go, report=_report
    )


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Builds, certifies and runs the embedded Kubernetes control plane"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_build(commands.add_parser("build", help="build programs; prints their directory"))
    _add_pki(commands.add_parser("pki", help="certificates, keys and kubeconfigs"))
    _add_units(commands.add_parser("units", help="systemd units"))
    _add_run(commands.add_parser("run", help="run all in the foreground"))
    return parser


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"any of {' '.join(BINARIES)}; default: {' '.join(DEFAULT_SET)}",
    )
    parser.set_defaults(command=_build)


def _add_pki(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=["ensure", "renew"],
        help="ensure: write what is missing or no longer serves; renew: write all anew",
    )
    parser.add_argument("--dir", type=Path, default=Path("/etc/slurmlet/pki"))
    _add_config(parser)
    parser.add_argument("--server", metavar="URL", help="default: https://FIRST_IP_OF_SAN:6443")
    parser.add_argument("--owner", metavar="USER", help="owns what unprivileged components read")
    parser.add_argument("--check", action="store_true", help="print what would be written")
    parser.add_argument("--ca", action="store_true", help="renew: the CA certificates too")
    _add_names(parser)
    parser.set_defaults(command=_pki)


def _add_units(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    parser.add_argument("--dest", type=Path, default=Path("/etc/systemd/system"))
    parser.add_argument("--check", action="store_true", help="print a diff and write nothing")
    parser.set_defaults(command=_units)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, required=True, help="holds pki/ etcd/ log/")
    parser.add_argument("--address", default="127.0.0.1", help="default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=6443, help="0: any free one (also the others)")
    parser.add_argument("--etcd-port", type=int, default=2379)
    parser.add_argument("--etcd-peer-port", type=int, default=2380)
    parser.add_argument("--controller-manager-port", type=int, default=10257)
    parser.add_argument("--no-fsync", action="store_true", help="faster; a power cut loses all")
    _add_names(parser)
    parser.set_defaults(command=_run)


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=Path(CONFIG_FILE))


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--san", action="append", default=[], metavar="NAME", help="a name or address of this host"
    )
    parser.add_argument("--node", action="append", default=[], help="a virtual node")
    parser.add_argument("--user", action="append", default=[], help="a person with a kubeconfig")
