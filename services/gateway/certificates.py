"""The gateway's TLS: its certificate and, where one is given, the CA that callers must come from."""

import ssl
from pathlib import Path

from shared.errors import BadSetting


def server_context(cert: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """A server context of TLS 1.2 or later. Raises `BadSetting` when the files do not fit together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key)
    except (ssl.SSLError, OSError) as error:
        raise BadSetting(
            f"MOORGATE_TLS_CERT_FILE and MOORGATE_TLS_KEY_FILE: {cert} and {key} are no certificate and its key: {error}"
        ) from error
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except (ssl.SSLError, OSError) as error:
            raise BadSetting(f"MOORGATE_CLIENT_CA_FILE: {client_ca} holds no CA: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context
