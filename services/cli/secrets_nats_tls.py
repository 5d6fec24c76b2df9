"""NATS' own certificate: an authority that lives long, a leaf of it, and who is to be trusted meanwhile.

The authority's key is in a Secret of its own, which no Pod mounts. Clients trust `ca.crt` of the leaf's Secret, which they
read at their start. So a leaf whose authority is trusted is kept until it is due, even when there is a newer authority: that
one is trusted first, and signs from the next renewal on. Only NATS' servers see the leaf; they present it to one another too.

Renewal happens when this runs, at installs and upgrades; so the lives are long.
"""

from datetime import datetime, timedelta

from cryptography import x509

from services.cli.bootstrap.plan import Failed
from services.cli.bootstrap.secrets import KubeSecret
from shared.authority import (
    Authority,
    Holder,
    Lifetimes,
    Material,
    hosts_of,
    is_due,
    issuer_of,
    make_authority,
    pem,
    read_authority,
    read_bundle,
    with_leaf,
)
from shared.certificates import BadCertificate, KeyPair, server_context

LIVES = Lifetimes(leaf=timedelta(days=3 * 365), authority=timedelta(days=20 * 365))
"""A leaf is due after two years, an authority after thirteen."""

HOLDER = Holder("moorgate nats", is_client_too=True)

CERT, KEY, CA_CERT, CA_KEY = "tls.crt", "tls.key", "ca.crt", "ca.key"


def authority_values(present: KubeSecret | None, now: datetime) -> dict[str, str]:
    """A new authority where there is none, or it is due. Raises `Failed` for one that cannot be read."""
    has_one = present is not None and (present.data.get(CA_CERT) or present.data.get(CA_KEY))
    if present is not None and has_one and not is_due(read(present).certificate, now):
        return {}
    pair = make_authority(now, LIVES.authority).pair
    return {CA_CERT: pair.certificate.decode(), CA_KEY: pair.key.decode()}


def read(present: KubeSecret) -> Authority:
    """The authority that the Secret holds. Raises `Failed`."""
    try:
        return read_authority(_pair(present, CA_CERT, CA_KEY))
    except BadCertificate as error:
        raise Failed(f"{error}: correct it, or delete it to have a new one made") from error


def tls_values(
    present: KubeSecret | None, authority: Authority, hosts: frozenset[str], now: datetime
) -> dict[str, str]:
    """What the leaf's Secret lacks. Raises `Failed` for one that was not made here and cannot be used."""
    before = read_bundle(present.value(CA_CERT).encode()) if present else ()
    older = [each for each in before if each != authority.certificate and each.not_valid_after_utc > now]
    trusted = (authority.certificate, *older)
    leaf = _leaf(present)
    if leaf is None or not _is_good(leaf, trusted, hosts, now):
        leaf = _new_leaf(authority, hosts, now)
    wanted = {
        CERT: leaf.certificate.decode(),
        KEY: leaf.key.decode(),
        CA_CERT: pem(trusted).decode(),
    }
    return {key: text for key, text in wanted.items() if present is None or present.value(key) != text}


def _leaf(present: KubeSecret | None) -> KeyPair | None:
    """The pair that is there; None where there is neither part."""
    if present is None or not (present.data.get(CERT) or present.data.get(KEY)):
        return None
    pair = _pair(present, CERT, KEY)
    try:
        server_context(pair, None)
    except BadCertificate as error:
        raise Failed(f"{error}: correct it, or delete it to have a new one made") from error
    return pair


def _new_leaf(authority: Authority, hosts: frozenset[str], now: datetime) -> KeyPair:
    material = Material(authority=authority, trusted=(authority.certificate,))
    leaf = with_leaf(material, hosts, now, LIVES, HOLDER).leaf
    if leaf is None:
        raise AssertionError("there is an authority, so there is a leaf")
    return leaf


def _is_good(
    pair: KeyPair, trusted: tuple[x509.Certificate, ...], hosts: frozenset[str], now: datetime
) -> bool:
    leaf = x509.load_pem_x509_certificate(pair.certificate)
    if issuer_of(leaf, trusted) is None:
        raise Failed(
            f"{CERT} is signed by nobody in {CA_CERT}: it was not made here; correct it, name another Secret,"
            " or delete it to have a new one made"
        )
    return not is_due(leaf, now) and hosts <= hosts_of(leaf)


def _pair(present: KubeSecret, certificate: str, key: str) -> KeyPair:
    return KeyPair(present.value(certificate).encode(), present.value(key).encode())
