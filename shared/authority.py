"""Our own certificate authority, as values: what is due, what is made, who is still trusted. Pure but for keys.

Four certificates' worth of rules, each decided from the certificates themselves and the time:

- an authority or a leaf is renewed at two thirds of its life; both begin an hour back, for clocks that are;
- the newest authority's key replaces the older one's: nothing more can be signed by that;
- an authority stays trusted until nothing it has signed can be valid any more: its last leaf is older than
  its successor, so that is a leaf's life after the successor was made, or its own end;
- a leaf is made by the newest authority alone, for all hosts by which the gateway is called.

The caller owes the order: trust an authority everywhere first, serve its leaf after that.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from ipaddress import ip_address

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.certificates import BadCertificate, KeyPair

SECRET, BUNDLE = "moorgate-gateway-tls", "bundle.crt"
"""Where the gateways keep what they issue, and under which key all authorities to be trusted; one installation a namespace."""

BACKDATE = timedelta(hours=1)
"""How far back a certificate begins: what a caller's clock may be slow."""

MAX_TRUSTED = 12
"""Authorities in a bundle: more come only from a Secret that is deleted again and again."""


class Lifetimes(msgspec.Struct, frozen=True):
    """How long everything lasts; shorter in tests."""

    leaf: timedelta = timedelta(days=90)
    authority: timedelta = timedelta(days=365)
    retirement: timedelta = timedelta(hours=1)
    """How much longer than its last leaf an authority is trusted: for clocks that are fast."""


class Holder(msgspec.Struct, frozen=True):
    """Whom a leaf is for."""

    name: str = "moorgate gateway"
    is_client_too: bool = False
    """It also calls others by this certificate: servers of one NATS cluster do."""


class Authority(msgspec.Struct, frozen=True):
    """A CA that can sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pair(self) -> KeyPair:
        """Both as PEM."""
        return KeyPair(pem([self.certificate]), _key_pem(self.key))


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the gateways' TLS is made of."""

    authority: Authority | None = None
    trusted: tuple[x509.Certificate, ...] = ()
    """Newest first; the authority among them."""
    leaf: KeyPair | None = None

    @property
    def leaf_certificate(self) -> x509.Certificate | None:
        """The leaf as a certificate."""
        return x509.load_pem_x509_certificate(self.leaf.certificate) if self.leaf else None


def with_authority(
    material: Material, known: Iterable[x509.Certificate], now: datetime, lives: Lifetimes
) -> Material:
    """The material with an authority that is not due, and without those that have retired.

    `known`: what callers trust already. It counts only when the material has lost an authority or its bundle:
    gateways may still serve a leaf of one whose traces are gone here.
    """
    authority = material.authority
    known_too = known if authority is None or not material.trusted else ()
    if authority is None or is_due(authority.certificate, now):
        authority = make_authority(now, lives.authority)
    keep, leaf = [authority.certificate], material.leaf_certificate
    if leaf and leaf.not_valid_after_utc > now and (issuer := issuer_of(leaf, material.trusted)):
        keep.append(issuer)
    return msgspec.structs.replace(
        material,
        authority=authority,
        trusted=trusted([authority.certificate, *material.trusted, *known_too], keep, now, lives),
    )


def with_leaf(
    material: Material, hosts: Iterable[str], now: datetime, lives: Lifetimes, holder: Holder | None = None
) -> Material:
    """The material with a leaf of the newest authority, not due, for at least these hosts."""
    authority, leaf = material.authority, material.leaf_certificate
    if authority is None:
        raise ValueError("an authority comes first")
    wanted = set(hosts)
    is_good = (
        leaf is not None
        and issuer_of(leaf, [authority.certificate]) is not None
        and not is_due(leaf, now)
        and wanted <= hosts_of(leaf)
    )
    if is_good:
        return material
    leaf_pair = _make_leaf(authority, wanted, now, lives.leaf, holder or Holder())
    return msgspec.structs.replace(material, leaf=leaf_pair)


def trusted(
    certificates: Iterable[x509.Certificate],
    keep: Iterable[x509.Certificate],
    now: datetime,
    lives: Lifetimes,
) -> tuple[x509.Certificate, ...]:
    """Those of the authorities that must be trusted, newest first; `keep` always."""
    ordered = sorted(set(certificates), key=_age, reverse=True)
    kept, successor = set(keep), None
    found = []
    for each in ordered:
        if each in kept or not _has_retired(each, successor, now, lives):
            found.append(each)
        successor = each
    surplus = [each for each in found if each not in kept][max(0, MAX_TRUSTED - len(kept)) :]
    return tuple(each for each in found if each not in surplus)


def is_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Two thirds of its life are over."""
    begin, end = _made_at(certificate), certificate.not_valid_after_utc
    return now >= begin + (end - begin) * 2 / 3


def issuer_of(
    leaf: x509.Certificate | None, authorities: Iterable[x509.Certificate]
) -> x509.Certificate | None:
    """Which of the authorities has signed the leaf."""
    if leaf is None:
        return None
    for each in authorities:
        try:
            leaf.verify_directly_issued_by(each)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        return each
    return None


def hosts_of(leaf: x509.Certificate) -> set[str]:
    """The names and addresses that the leaf is for."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}


def read_authority(pair: KeyPair) -> Authority:
    """Raises `BadCertificate`."""
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        key = serialization.load_pem_private_key(pair.key, password=None)
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
        raise BadCertificate(f"the CA can't be read: {error}") from error
    if not is_ca:
        raise BadCertificate("the CA's certificate is not a CA's")
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise BadCertificate("the CA's key is not its own")
    return Authority(certificate, key)


def read_bundle(text: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates in it; none where it can't be read."""
    try:
        return tuple(x509.load_pem_x509_certificates(text))
    except ValueError:
        return ()


def pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """All of them, one after another."""
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def _has_retired(
    each: x509.Certificate, successor: x509.Certificate | None, now: datetime, lives: Lifetimes
) -> bool:
    """Nothing that it has signed can be valid any more."""
    end = each.not_valid_after_utc
    if successor is not None:
        end = min(end, _made_at(successor) + lives.leaf)
    return now >= end + lives.retirement


def _age(certificate: x509.Certificate) -> tuple[datetime, int]:
    """To sort by, the same for everybody: bundles are compared as text."""
    return certificate.not_valid_before_utc, certificate.serial_number


def _made_at(certificate: x509.Certificate) -> datetime:
    return certificate.not_valid_before_utc + BACKDATE


def make_authority(now: datetime, life: timedelta) -> Authority:
    """A new one, ECDSA on P-256, that can sign leaves and no other authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"moorgate CA {serial:x}"[:28])])
    certificate = (
        _certificate(name, name, key.public_key(), now, now + life)
        .serial_number(serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def _make_leaf(
    authority: Authority, hosts: set[str], now: datetime, life: timedelta, holder: Holder
) -> KeyPair:
    key, issuer = ec.generate_private_key(ec.SECP256R1()), authority.certificate
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, holder.name)])
    roles = [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] * holder.is_client_too)]
    end = min(now + life, issuer.not_valid_after_utc)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    certificate = (
        _certificate(name, issuer.subject, key.public_key(), now, end)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(roles), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.SubjectAlternativeName(map(_general_name, sorted(hosts))), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return KeyPair(pem([certificate]), _key_pem(key))


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .not_valid_before(now - BACKDATE)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """A CA signs certificates and their revocations, a leaf signs handshakes, and neither anything else."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
