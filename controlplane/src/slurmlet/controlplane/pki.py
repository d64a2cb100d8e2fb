"""Keeps a directory of certificates, keys and kubeconfigs true to what a site asks for."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from slurmlet.controlplane import certificates, kubeconfig
from slurmlet.controlplane.certificates import Leaf, Request
from slurmlet.controlplane.errors import ControlPlaneError
from slurmlet.controlplane.store import PRIVATE, PUBLIC, Store

AUTHORITIES = {"ca": "slurmlet-ca", "front-proxy-ca": "slurmlet-front-proxy-ca"}
KUBECONFIGS = {
    "admin": "admin",
    "controller-manager": "system:kube-controller-manager",
    "scheduler": "system:kube-scheduler",
    "dns": "slurmlet:dns",
}
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_NODE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,50}[a-z0-9])?")
_DNS = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def ensure(
    store: Store,
    request: Request,
    *,
    server: str,
    now: datetime | None = None,
    renew: bool = False,
    renew_authorities: bool = False,
    warn: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Writes what is missing or no longer serves; the paths written (empty: nothing to do).

    `renew` makes every certificate anew, `renew_authorities` also the CA certificates, under the
    same CA keys. Raises ControlPlaneError: a bad name, a damaged authority, an unwritable file.
    """
    now = now or datetime.now(UTC)
    check(request)
    with store.locked():
        leaves = certificates.leaves(request)
        authorities = {}
        for name in AUTHORITIES:
            issued = [leaf.file for leaf in leaves if leaf.issuer == name]
            authority = _authority(store, name, issued=issued, now=now, renew=renew_authorities)
            _check_age(store, name, authority, now=now, warn=warn)
            authorities[name] = authority
        _service_account_key(store)
        for leaf in leaves:
            _leaf(store, leaf, authorities[leaf.issuer], now=now, renew=renew)
        for file, user in KUBECONFIGS.items():
            pair = (store.read(f"{file}.crt") or b"", store.read(f"{file}.key") or b"")
            shared = next(leaf.shared for leaf in leaves if leaf.file == file)
            _kubeconfig(store, f"{file}.conf", server=server, user=user, pair=pair, shared=shared)
        for user in request.users:
            pair = _user_pair(store, user, authorities["ca"], now=now, renew=renew)
            _kubeconfig(store, f"users/{user}.conf", server=server, user=user, pair=pair)
    return store.changed


def default_server(request: Request, port: int = 6443) -> str:
    """The API server's URL under the first address of `sans`."""
    for san in request.sans:
        try:
            address = ipaddress.ip_address(san)
        except ValueError:
            continue
        return f"https://[{san}]:{port}" if address.version == 6 else f"https://{san}:{port}"
    raise ControlPlaneError("no --san is an IP address: give one, or --server https://HOST:6443")


def check(request: Request) -> None:
    """Raises ControlPlaneError for a name that cannot become a certificate."""
    if not request.sans:
        raise ControlPlaneError("--san is missing: the name or address of this host for clients")
    for user in request.users:
        if not _USER.fullmatch(user):
            raise ControlPlaneError(f"--user {user!r} must be 1-64 of A-Z a-z 0-9 . _ @ -")
    for node in request.nodes:
        if not _NODE.fullmatch(node):
            raise ControlPlaneError(f"--node {node!r} must be a DNS name of at most 52 characters")
    for san in request.sans:
        try:
            ipaddress.ip_address(san)
        except ValueError:
            if not _DNS.fullmatch(san):
                raise ControlPlaneError(
                    f"--san {san!r} must be a DNS name or an IP address"
                ) from None


def _authority(
    store: Store, name: str, *, issued: list[str], now: datetime, renew: bool
) -> Authority:
    crt, key = store.read(f"{name}.crt"), store.read(f"{name}.key")
    if crt is None and key is None:
        _refuse_orphans(store, name, issued)
        fresh_key = certificates.new_key()
        fresh = certificates.new_authority(AUTHORITIES[name], fresh_key, now=now)
        return _keep_authority(store, name, Authority(fresh, fresh_key))
    if crt is None or key is None:
        lost, left = ("crt", "key") if crt is None else ("key", "crt")
        raise ControlPlaneError(
            f"{store.directory}/{name}.{lost} is missing beside {name}.{left}: restore it, or move "
            f"all of {store.directory} away to start with a new authority"
        )
    loaded_key, certificate = _load_key(key), _load_certificate(crt)
    if (
        loaded_key is None
        or certificate is None
        or certificate.public_key() != loaded_key.public_key()
    ):
        raise ControlPlaneError(
            f"{store.directory}/{name}.crt and {name}.key are damaged or do not belong together: "
            f"restore them, or move all of {store.directory} away to start with a new authority"
        )
    if renew:
        certificate = certificates.new_authority(AUTHORITIES[name], loaded_key, now=now)
        return _keep_authority(store, name, Authority(certificate, loaded_key))
    store.keep(f"{name}.key", key, mode=PRIVATE)
    store.keep(f"{name}.crt", crt, mode=PUBLIC)
    return Authority(certificate, loaded_key)


def _refuse_orphans(store: Store, name: str, issued: list[str]) -> None:
    """The CA is never replaced silently: what it issued would stop working everywhere."""
    for file in issued:
        if store.read(f"{file}.crt") is not None:
            raise ControlPlaneError(
                f"{store.directory} has {file}.crt but neither {name}.crt nor {name}.key: restore "
                f"them, or move all of {store.directory} away to start with a new authority"
            )


def _keep_authority(store: Store, name: str, authority: Authority) -> Authority:
    store.keep(f"{name}.key", certificates.key_pem(authority.key), mode=PRIVATE)
    pem = certificates.certificate_pem(authority.certificate)
    store.keep(f"{name}.crt", pem, mode=PUBLIC)
    return authority


def _check_age(
    store: Store, name: str, authority: Authority, *, now: datetime, warn: Callable[[str], None]
) -> None:
    end = authority.certificate.not_valid_after_utc
    path = store.directory / f"{name}.crt"
    remedy = "run `slurmlet-controlplane pki renew --ca` and give ca.crt to all nodes again"
    if end <= now:
        raise ControlPlaneError(f"{path} ended on {end:%Y-%m-%d}: {remedy}")
    if certificates.needs_renewal(authority.certificate, now=now):
        warn(f"{path} ends on {end:%Y-%m-%d}: {remedy}")


def _service_account_key(store: Store) -> None:
    pem = store.read("sa.key")
    key = certificates.new_key() if pem is None else _load_key(pem)
    if key is None:
        raise ControlPlaneError(
            f"{store.directory}/sa.key is damaged: restore it, or remove it to make a new one "
            "(every service-account token issued so far becomes invalid)"
        )
    store.keep("sa.key", pem or certificates.key_pem(key), mode=PRIVATE)
    store.keep("sa.pub", certificates.public_pem(key), mode=PUBLIC)


def _leaf(store: Store, leaf: Leaf, authority: Authority, *, now: datetime, renew: bool) -> None:
    crt, key = store.read(f"{leaf.file}.crt"), store.read(f"{leaf.file}.key")
    if renew or crt is None or key is None or _fault(leaf, crt, key, authority, now=now):
        crt, key = _issue(leaf, authority, now=now)
    store.keep(f"{leaf.file}.key", key, mode=PRIVATE, shared=leaf.shared)
    store.keep(f"{leaf.file}.crt", crt, mode=PUBLIC, shared=leaf.shared)


def _user_pair(
    store: Store, user: str, authority: Authority, *, now: datetime, renew: bool
) -> tuple[bytes, bytes]:
    leaf = certificates.user_leaf(user)
    text = store.read(f"users/{user}.conf")
    if text is not None and not renew:
        try:
            crt, key = kubeconfig.client_pair(text.decode())
        except ValueError:
            crt, key = b"", b""
        if not _fault(leaf, crt, key, authority, now=now):
            return crt, key
    return _issue(leaf, authority, now=now)


def _kubeconfig(
    store: Store,
    name: str,
    *,
    server: str,
    user: str,
    pair: tuple[bytes, bytes],
    shared: bool = False,
) -> None:
    ca = store.read("ca.crt") or b""
    text = kubeconfig.render(server=server, user=user, ca=ca, certificate=pair[0], key=pair[1])
    store.keep(name, text.encode(), mode=PRIVATE, shared=shared)


def _issue(leaf: Leaf, authority: Authority, *, now: datetime) -> tuple[bytes, bytes]:
    key = certificates.new_key()
    certificate = certificates.new_leaf(
        leaf, key, ca=authority.certificate, ca_key=authority.key, now=now
    )
    return certificates.certificate_pem(certificate), certificates.key_pem(key)


def _fault(
    leaf: Leaf, crt: bytes, key: bytes, authority: Authority, *, now: datetime
) -> str | None:
    certificate, loaded_key = _load_certificate(crt), _load_key(key)
    if certificate is None or loaded_key is None:
        return "is damaged"
    return certificates.fault(leaf, certificate, loaded_key, ca=authority.certificate, now=now)


def _load_certificate(pem: bytes) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        return None


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None
