"""Everything secret in the compose stack: made at its first start, kept for good, and handed to those who need it.

    python -m deploy.compose.credentials /state

Each folder below `/state` is a volume that one part of the stack mounts, so that nobody sees more than its own.
`credentials` is nobody's but this program's: the one file there is the truth, put in place in one step, and the
other folders are written from it each time. A run that died in between is mended by the next, and two starts agree.
Certificates are renewed when two thirds of their lives are over; a service reads them when it is started again.
"""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from services.cli import secrets_made
from services.cli.secrets_nats_tls import LIVES
from shared.authority import Material, make_authority, pem, read_authority, with_leaf
from shared.certificates import KeyPair

HOSTS = {"nats": ("nats", "localhost"), "gateway": ("gateway", "localhost", "127.0.0.1")}
"""By which names each of the two servers is called."""

BOOTSTRAP = """\
anchore: {{url: "http://{anchore}:8228", passwordFile: anchore-password}}
bundles: {{predefined: all, active: reject_critical}}
waitFor: 15m
"""
"""Of both Anchores: the administrator's own account is set up, since there is nobody else in this stack."""

ANCHORES = ("simulator", "engine")


class Pair(msgspec.Struct, frozen=True):
    """A certificate and its key, PEM."""

    certificate: str
    key: str

    @classmethod
    def of(cls, pair: KeyPair) -> "Pair":
        """From bytes."""
        return cls(pair.certificate.decode(), pair.key.decode())

    def as_bytes(self) -> KeyPair:
        """For those who sign and check."""
        return KeyPair(self.certificate.encode(), self.key.encode())


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What the one file holds."""

    nats: dict[str, str]
    """Passwords, by user."""
    path_secret: str
    anchore: str
    """The password of Anchore's administrator."""
    database: str
    authority: Pair
    leaves: dict[str, Pair] = {}


def make(now: datetime) -> Credentials:
    """All of them, new."""
    passwords = secrets_made.users(None)
    return Credentials(
        nats=passwords,
        path_secret=_made_up(),
        anchore=_made_up(),
        database=_made_up(),
        authority=Pair.of(make_authority(now, LIVES.authority).pair),
    )


def with_leaves(credentials: Credentials, now: datetime) -> Credentials:
    """With a certificate for each server, renewed where that is due."""
    authority = read_authority(credentials.authority.as_bytes())
    leaves = {}
    for server, hosts in HOSTS.items():
        held = credentials.leaves.get(server)
        material = Material(authority=authority, leaf=held.as_bytes() if held else None)
        material = msgspec.structs.replace(material, trusted=(authority.certificate,))
        leaf = with_leaf(material, hosts, now, LIVES).leaf
        if leaf is None:
            raise AssertionError("a leaf is made where there was none")
        leaves[server] = Pair.of(leaf)
    return msgspec.structs.replace(credentials, leaves=leaves)


def files(credentials: Credentials) -> dict[str, dict[str, str]]:
    """What is in each folder: names and texts."""
    authority = pem([read_authority(credentials.authority.as_bytes()).certificate]).decode()
    return {
        "nats": _tls(credentials.leaves["nats"], authority) | {"passwords.env": _environment(credentials)},
        "gateway": _client(credentials, authority, "gateway")
        | _tls(credentials.leaves["gateway"], authority)
        | {"path-secret": credentials.path_secret},
        "scanner": _client(credentials, authority, "scanner") | {"anchore-password": credentials.anchore},
        "audit-writer": _client(credentials, authority, "audit-writer"),
        "bootstrap": _client(credentials, authority, "operator")
        | {"anchore-password": credentials.anchore}
        | {f"bootstrap-{anchore}.yaml": BOOTSTRAP.format(anchore=anchore) for anchore in ANCHORES},
        "anchore": {
            "admin-password": credentials.anchore,
            "database-password": credentials.database,
            "engine.env": f"ANCHORE_ADMIN_PASSWORD={credentials.anchore}\nANCHORE_DB_PASSWORD={credentials.database}\n",
        },
    }


def _client(credentials: Credentials, authority: str, user: str) -> dict[str, str]:
    return {"nats-password": credentials.nats[user], "nats-ca.crt": authority}


def _tls(leaf: Pair, authority: str) -> dict[str, str]:
    return {"tls.crt": leaf.certificate, "tls.key": leaf.key, "ca.crt": authority}


def _environment(credentials: Credentials) -> str:
    """As the files of deploy/helm/moorgate/files/nats name the passwords."""
    return "".join(
        f"MOORGATE_NATS_{user.upper().replace('-', '_')}_PASSWORD={password}\n"
        for user, password in credentials.nats.items()
    )


def _made_up() -> str:
    return secrets_made.path(None)[secrets_made.PATH_SECRET]


def write(state: Path, now: datetime) -> None:
    """Make what is missing, and lay everything out."""
    kept = state / "credentials" / "credentials.json"
    before = msgspec.json.decode(kept.read_bytes(), type=Credentials) if kept.exists() else None
    credentials = with_leaves(before or make(now), now)
    if credentials != before:
        _put(kept, msgspec.json.encode(credentials).decode(), mode=0o600)
    for folder, content in files(credentials).items():
        _lay_out(state / folder, content)


def _lay_out(folder: Path, content: Mapping[str, str]) -> None:
    for name, text in content.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            # The volume is the fence; inside it programs of several users read (postgres, Anchore).
            _put(path, text, mode=0o444)


def _put(path: Path, text: str, mode: int) -> None:
    """In one step: nobody ever reads half a file."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(text)
    part.chmod(mode)
    part.rename(path)


def main() -> int:
    """The exit code."""
    write(Path(sys.argv[1]), datetime.now(UTC))
    return 0


if __name__ == "__main__":
    sys.exit(main())
