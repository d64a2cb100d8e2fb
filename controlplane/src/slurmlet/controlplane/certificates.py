"""Pure: which certificates a cluster needs, making one, and saying what is wrong with one."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=365)
CLOCK_SKEW = timedelta(minutes=5)
"""Hosts of one cluster may disagree by this much about when a new certificate begins."""

LOOPBACK = ("localhost", "127.0.0.1")
KUBELET_CLIENT_GROUP = "slurmlet:kubelet-api-clients"
"""What the API server is when it calls the kubelet API: not system:masters, it needs no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One certificate: file name without suffix, subject, uses, alternative names, issuer.

    `shared` ones are read by components that do not run as root.
    """

    file: str
    common_name: str
    organization: str | None = None
    server: bool = False
    client: bool = False
    sans: tuple[str, ...] = ()
    issuer: str = "ca"
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a site asks for. `sans` are the names and addresses under which this host is reached."""

    sans: tuple[str, ...]
    nodes: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    service_ip: str = "10.96.0.1"
    cluster_domain: str = "cluster.local"


def leaves(request: Request) -> tuple[Leaf, ...]:
    """All certificates of a cluster, apart from the authorities and the users' own."""
    api_names = (
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{request.cluster_domain}",
        request.service_ip,
    )
    reached = (*LOOPBACK, *request.sans)
    webhook_names = ("slurmlet-webhook.slurmlet-system.svc",)
    kubelet_name = f"system:node:{request.nodes[0]}" if request.nodes else "system:node"
    fixed = (
        Leaf(
            file="apiserver",
            common_name="kube-apiserver",
            server=True,
            sans=(*api_names, *reached),
        ),
        Leaf(
            file="apiserver-kubelet-client",
            common_name="kube-apiserver-kubelet-client",
            organization=KUBELET_CLIENT_GROUP,
            client=True,
        ),
        # etcd trusts the cluster CA, which also signs users: its --client-cert-allowed-hostname
        # lets in only who holds this name, and no user certificate has alternative names.
        Leaf(
            file="apiserver-etcd-client",
            common_name="kube-apiserver-etcd-client",
            client=True,
            sans=("apiserver-etcd-client",),
        ),
        Leaf(
            file="etcd-server",
            common_name="etcd-server",
            server=True,
            client=True,
            sans=("etcd-server", *LOOPBACK),
        ),
        Leaf(
            file="front-proxy-client",
            common_name="front-proxy-client",
            client=True,
            issuer="front-proxy-ca",
        ),
        Leaf(file="kubelet", common_name=kubelet_name, server=True, sans=reached, shared=True),
        Leaf(
            file="webhook",
            common_name="slurmlet-webhook",
            server=True,
            sans=(*webhook_names, *reached),
            shared=True,
        ),
        Leaf(file="admin", common_name="admin", organization="system:masters", client=True),
        Leaf(file="controller-manager", common_name="system:kube-controller-manager", client=True),
        Leaf(file="scheduler", common_name="system:kube-scheduler", client=True, shared=True),
        Leaf(file="dns", common_name="slurmlet:dns", client=True),
    )
    nodes = tuple(
        Leaf(
            file=f"node-{name}",
            common_name=f"system:node:{name}",
            organization="system:nodes",
            client=True,
            shared=True,
        )
        for name in request.nodes
    )
    return fixed + nodes


def user_leaf(name: str) -> Leaf:
    """The certificate of a person; it lives inside the kubeconfig only."""
    return Leaf(file=f"users/{name}", common_name=name, client=True)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS#8, unencrypted: the file's mode is what protects it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public half, for verifying service-account tokens."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def new_authority(
    common_name: str, key: ec.EllipticCurvePrivateKey, *, now: datetime
) -> x509.Certificate:
    """A self-signed CA certificate that cannot sign further authorities."""
    name = _name(common_name, None)
    usage = _key_usage(certificate_sign=True)
    return (
        _builder(name, name, key, now=now, life=CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )


def new_leaf(
    leaf: Leaf,
    key: ec.EllipticCurvePrivateKey,
    *,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    """A certificate for `leaf`, never longer valid than its authority."""
    name = _name(leaf.common_name, leaf.organization)
    life = min(LEAF_LIFE, ca.not_valid_after_utc - now)
    builder = (
        _builder(name, ca.subject, key, now=now, life=life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(certificate_sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_uses(leaf)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
    )
    if leaf.sans:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(general_names(leaf.sans)), critical=False
        )
    return builder.sign(ca_key, hashes.SHA256())


def fault(
    leaf: Leaf,
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    *,
    ca: x509.Certificate,
    now: datetime,
) -> str | None:
    """Why a certificate must be made anew; None when it serves."""
    if certificate.public_key() != key.public_key():
        return "does not match its key"
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return "was issued by another authority"
    if certificate.subject != _name(leaf.common_name, leaf.organization):
        return "names another subject"
    if _names_of(certificate) != set(general_names(leaf.sans)):
        return "has other alternative names"
    if needs_renewal(certificate, now=now):
        return "is near its end"
    return None


def needs_renewal(certificate: x509.Certificate, *, now: datetime) -> bool:
    """Whether less than a third of its life is left."""
    end = certificate.not_valid_after_utc
    return (end - now) * 3 < end - certificate.not_valid_before_utc


def general_names(sans: Sequence[str]) -> list[x509.GeneralName]:
    """Addresses become IP names, anything else DNS names; duplicates fall away."""
    names: list[x509.GeneralName] = []
    for san in dict.fromkeys(sans):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(san)))
        except ValueError:
            names.append(x509.DNSName(san))
    return names


def _names_of(certificate: x509.Certificate) -> set[x509.GeneralName]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    return set(extension.value)


def _name(common_name: str, organization: str | None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _uses(leaf: Leaf) -> list[x509.ObjectIdentifier]:
    server = [ExtendedKeyUsageOID.SERVER_AUTH] if leaf.server else []
    client = [ExtendedKeyUsageOID.CLIENT_AUTH] if leaf.client else []
    return server + client


def _key_usage(*, certificate_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=certificate_sign,
        crl_sign=certificate_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
