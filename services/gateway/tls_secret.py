"""The Secret in which the gateways share what their own issuer makes.

`tls.crt` and `tls.key` are the leaf, as a Secret of type kubernetes.io/tls has them; `ca.crt` and `ca.key`
the authority that signs the next one; `bundle.crt` all authorities to be trusted, newest first. Every write
carries the version that was read, so that of two leaders one gets a conflict. What somebody has broken by
hand counts as missing, part by part.
"""

import msgspec

from shared.authority import BUNDLE, SECRET, Authority, Material, issuer_of, pem, read_authority, read_bundle
from shared.certificates import BadCertificate, KeyPair, server_context
from shared.cluster import MERGE, Cluster
from shared.objects import ObjectMeta

LABELS = {"app.kubernetes.io/part-of": "moorgate", "app.kubernetes.io/component": "gateway"}

CERT, KEY, CA_CERT, CA_KEY = "tls.crt", "tls.key", "ca.crt", "ca.key"


class Held(msgspec.Struct, frozen=True):
    """The Secret as it was read."""

    material: Material
    version: str = ""
    """Empty: there is no Secret."""
    complaints: tuple[str, ...] = ()
    """What is there and can't be used."""


class _Secret(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    metadata: ObjectMeta
    data: dict[str, bytes] | None = None
    type: str = "kubernetes.io/tls"
    api_version: str = "v1"
    kind: str = "Secret"


class _Change(msgspec.Struct, frozen=True, rename="camel"):
    metadata: ObjectMeta
    data: dict[str, bytes]


_SECRET = msgspec.json.Decoder(_Secret)


class TlsSecret:
    """One Secret on one API server; a source of certificates, and where the issuer keeps what it makes."""

    def __init__(self, cluster: Cluster, namespace: str, name: str = SECRET) -> None:
        self._cluster = cluster
        self._collection = f"/api/v1/namespaces/{namespace}/secrets"
        self._where = f"{namespace}/{name}"
        self._namespace = namespace
        self._name = name

    async def read(self) -> KeyPair:
        """The leaf. Raises `BadCertificate` while there is none that its own bundle vouches for."""
        held = await self.held()
        if held.material.leaf is None:
            missing = "is not there" if not held.version else "holds no certificate to serve yet"
            raise BadCertificate(f"the Secret {self._where} {'; '.join(held.complaints) or missing}")
        return held.material.leaf

    async def held(self) -> Held:
        """Everything. Raises `Unavailable`, `Refused`."""
        secret = await self._cluster.get(f"{self._collection}/{self._name}", _SECRET)
        if secret is None:
            return Held(Material())
        return _held(secret.data or {}, secret.metadata.resource_version)

    async def write(self, material: Material, version: str) -> str:
        """Store it over the version that was read, and give the new one. Raises `Conflict`."""
        data = _data(material)
        if not version:
            new = _Secret(
                metadata=ObjectMeta(name=self._name, namespace=self._namespace, labels=LABELS), data=data
            )
            answer = await self._cluster.create(self._collection, new)
        else:
            change = _Change(ObjectMeta(resource_version=version), data)
            answer = await self._cluster.request(
                "PATCH",
                f"{self._collection}/{self._name}",
                body=msgspec.json.encode(change),
                content_type=MERGE,
            )
        return _SECRET.decode(answer).metadata.resource_version


def _held(data: dict[str, bytes], version: str) -> Held:
    """Part by part: what one hand broke need not cost the rest."""
    complaints = []
    bundle = read_bundle(data.get(BUNDLE, b""))
    if not bundle:
        complaints.append(f"has no readable {BUNDLE}")
    authority: Authority | None = None
    try:
        authority = read_authority(KeyPair(data.get(CA_CERT, b""), data.get(CA_KEY, b"")))
    except BadCertificate as error:
        complaints.append(f"{CA_CERT}, {CA_KEY}: {error}")
    leaf = KeyPair(data.get(CERT, b""), data.get(KEY, b""))
    material = Material(authority=authority, trusted=bundle, leaf=leaf)
    if complaint := _complaint(material):
        complaints.append(f"{CERT}, {KEY}: {complaint}")
    if complaint or not leaf.certificate:
        material = msgspec.structs.replace(material, leaf=None)
    return Held(material, version, tuple(complaints))


def _complaint(material: Material) -> str:
    """Why the leaf is not to be served; empty also for one that is not made yet."""
    if material.leaf is None or not (material.leaf.certificate or material.leaf.key):
        return ""
    try:
        server_context(material.leaf, None)
    except BadCertificate as error:
        return str(error)
    own = (material.authority.certificate,) if material.authority else ()
    if issuer_of(material.leaf_certificate, (*own, *material.trusted)) is None:
        return f"signed by nobody in {BUNDLE}"
    return ""


def _data(material: Material) -> dict[str, bytes]:
    leaf = material.leaf or KeyPair(b"", b"")
    authority = material.authority.pair if material.authority else KeyPair(b"", b"")
    return {
        CERT: leaf.certificate,
        KEY: leaf.key,
        CA_CERT: authority.certificate,
        CA_KEY: authority.key,
        BUNDLE: pem(material.trusted),
    }
