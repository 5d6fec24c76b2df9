"""Who may talk to the embedded control plane, and by which files.

A certificate authority of its own for the API server's certificate, the key that signs service account
tokens, the token file that names every user, and a kubeconfig file for each of them. All are made anew
at each start of the control plane and are worth nothing elsewhere.
"""

import json
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path

import trustme

CONTEXT = "moorgate-dev"
"""The name that kubectl shows for the cluster."""


@dataclass(frozen=True)
class User:
    """A name and groups as the API server shall see them."""

    name: str
    groups: tuple[str, ...] = ()
    token: str = field(default="", repr=False)
    """Its password; empty: made up at the start."""


@dataclass(frozen=True)
class CredentialFiles:
    """Where everything lies, below one folder."""

    folder: Path

    @property
    def ca(self) -> Path:
        """The authority that clients trust, PEM."""
        return self.folder / "ca.pem"

    @property
    def serving_certificate(self) -> Path:
        """Of the API server, for 127.0.0.1 and localhost."""
        return self.folder / "apiserver.pem"

    @property
    def serving_key(self) -> Path:
        """The key of the serving certificate."""
        return self.folder / "apiserver.key"

    @property
    def service_account_key(self) -> Path:
        """Signs and checks service account tokens."""
        return self.folder / "service-accounts.key"

    @property
    def tokens(self) -> Path:
        """The API server's token file; it is read once, at the API server's start."""
        return self.folder / "tokens.csv"

    def kubeconfig(self, user: str) -> Path:
        """The kubeconfig file of a user."""
        return self.folder / f"{user.replace(':', '-')}.kubeconfig"


def write_credentials(folder: Path, server: str, users: list[User]) -> CredentialFiles:
    """Make certificates, keys, the token file and a kubeconfig for each user."""
    files = CredentialFiles(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = trustme.CA()
    serving = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(files.ca)
    serving.cert_chain_pems[0].write_to_path(files.serving_certificate)
    serving.private_key_pem.write_to_path(files.serving_key)
    # Only the key counts here; trustme makes keys with certificates.
    authority.issue_cert("service-accounts.invalid").private_key_pem.write_to_path(files.service_account_key)
    users = [user if user.token else replace(user, token=secrets.token_hex(16)) for user in users]
    files.tokens.write_text("".join(_token_line(user) for user in users))
    for user in users:
        files.kubeconfig(user.name).write_text(_kubeconfig(server, files.ca, user))
    return files


def _token_line(user: User) -> str:
    groups = ",".join(user.groups)
    return f'{user.token},{user.name},{user.name},"{groups}"\n'


def _kubeconfig(server: str, ca: Path, user: User) -> str:
    """JSON, which is YAML too, so that no YAML writer is needed."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": CONTEXT, "cluster": {"server": server, "certificate-authority": str(ca.resolve())}}
            ],
            "users": [{"name": user.name, "user": {"token": user.token}}],
            "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": user.name}}],
            "current-context": CONTEXT,
        },
        indent=2,
    )
