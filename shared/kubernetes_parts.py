"""The two parts of kubernetes-asyncio that are used, without its generated models.

Importing anything of the package runs its `__init__`, which loads a class for every kind of object that Kubernetes
has: a second and 65 MB, in each gateway and audit-writer, for classes that nobody uses. So the package and its
`client` are entered by stand-ins that only know where their files lie, for as long as the import takes. Afterwards
whoever imports the whole package gets the whole package.
"""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

_PACKAGE, _CLIENT = "kubernetes_asyncio", "kubernetes_asyncio.client"


class _NotLoaded:
    """In the place of the generated client, which `kube_config` wants to have been imported."""

    def __init__(self, *_: object, **__: object) -> None:
        raise NotImplementedError("requests go through shared/cluster.py")


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Nothing, where the whole package is loaded already."""
    if _PACKAGE in sys.modules:
        yield
        return
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.origin:
        raise ModuleNotFoundError(f"No module named {_PACKAGE!r}", name=_PACKAGE)
    folder = Path(found.origin).parent
    package, client = ModuleType(_PACKAGE), ModuleType(_CLIENT)
    package.__path__, client.__path__ = [str(folder)], [str(folder / "client")]
    sys.modules |= {_PACKAGE: package, _CLIENT: client}
    try:
        from kubernetes_asyncio.client.configuration import Configuration  # noqa: PLC0415  only now it is light

        vars(client).update(Configuration=Configuration, ApiClient=_NotLoaded)
        yield
    finally:
        del sys.modules[_PACKAGE], sys.modules[_CLIENT]


with _stand_ins():
    from kubernetes_asyncio import config
    from kubernetes_asyncio.client import Configuration
    from kubernetes_asyncio.client.rest import RESTClientObject

__all__ = ["Configuration", "RESTClientObject", "config"]
