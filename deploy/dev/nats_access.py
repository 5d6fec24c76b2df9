"""The chart's own NATS configuration as a server of ours uses it: certificates and passwords made up.

The files are copied to the server's working directory as chart and compose mount them, with `tls/` beside them.
Every user of `users.conf` gets a password; clients get theirs as the settings of a service.
"""

import secrets
import shutil
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

FILES = Path(__file__).parents[1] / "helm" / "moorgate" / "files" / "nats"
"""The one copy, inside the chart."""

USERS = ("gateway", "scanner", "audit-writer", "integrator", "operator")
"""Those of `users.conf` and `integrators.conf`."""


@dataclass(kw_only=True)
class NatsAccess:
    """Configuration, certificates and passwords; servers of one cluster share them."""

    folder: Path
    """The working directory of the servers."""
    passwords: Mapping[str, str] = field(
        default_factory=lambda: {user: f"p{secrets.token_hex(16)}" for user in USERS}
    )

    addresses: Sequence[str] = ()
    """Of servers that are not on 127.0.0.1: their certificate names these too."""

    @property
    def ca(self) -> Path:
        """The CA that the servers' certificate comes from, PEM."""
        return self.folder / "tls" / "ca.crt"

    def write(self) -> None:
        """Lay everything out, unless it is there: a server that comes back keeps its certificate."""
        if self.ca.exists():
            return
        shutil.copytree(FILES, self.folder, dirs_exist_ok=True)
        tls = self.folder / "tls"
        tls.mkdir(mode=0o700)
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1", "localhost", *self.addresses)
        certificate.private_key_pem.write_to_path(tls / "tls.key")
        certificate.cert_chain_pems[0].write_to_path(tls / "tls.crt")
        authority.cert_pem.write_to_path(self.ca)

    def server_environment(self) -> dict[str, str]:
        """The passwords, as nats-server reads them."""
        return {
            f"MOORGATE_NATS_{user.upper().replace('-', '_')}_PASSWORD": password
            for user, password in self.passwords.items()
        }

    def settings(self, user: str) -> dict[str, str]:
        """What a service or command of ours needs beside the URL."""
        return {
            "MOORGATE_NATS_USER": user,
            "MOORGATE_NATS_PASSWORD": self.passwords[user],
            "MOORGATE_NATS_CA_FILE": str(self.ca),
        }

    def options(self, user: str) -> dict[str, Any]:
        """The same for `nats.connect`."""
        return {
            "user": user,
            "password": self.passwords[user],
            "tls": ssl.create_default_context(cafile=str(self.ca)),
            "inbox_prefix": f"_INBOX_{user}",
        }
