"""Whom the API server shall trust: certificates added to what it trusts already, never put in its place.

The gateways' issuer and cert-manager's injector write `caBundle` too. Whatever one of them has put there meanwhile stays: a
trust that is taken away too early refuses every Pod. Only what has expired goes.
"""

import base64
from datetime import datetime

from cryptography import x509

from shared.authority import pem, read_bundle


def bundle_of(text: bytes, now: datetime) -> tuple[x509.Certificate, ...]:
    """The certificates in PEM that have not expired; none where it can't be read."""
    return tuple(each for each in read_bundle(text) if each.not_valid_after_utc > now)


def with_added(live: bytes, wanted: tuple[x509.Certificate, ...], now: datetime) -> bytes:
    """The bundle to write: as it is, byte for byte, where it vouches for all that is wanted already."""
    present = bundle_of(live, now)
    missing = [each for each in wanted if each not in present]
    if not missing and len(present) == len(read_bundle(live)):
        return live
    return pem([*missing, *present])


def encoded(bundle: bytes) -> str:
    """As JSON carries it."""
    return base64.b64encode(bundle).decode()
