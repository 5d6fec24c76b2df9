"""What every Kubernetes object has: the part of its metadata that Moorgate reads.

It stands apart from the code that talks to the API server, so that contracts and pure modules can
describe objects without importing a client.
"""

import msgspec


class ObjectMeta(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The part of an object's metadata that every feed needs."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
