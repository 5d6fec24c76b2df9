"""What judges an image now: ImagePolicies, whitelist and the namespaces' labels, read once, from the cluster or a file.

They are weighed by the code that gateways use; the defaults where no policy matches are those of this process's
environment (MOORGATE_MODE, …), which should be the gateways'.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.cli.whitelist_cluster import items
from services.gateway import policies_file
from services.gateway.namespaces import NAME_LABEL
from shared.cluster import Cluster, object_path
from shared.image_policies import PATH, ImagePolicy, PolicyFeed
from shared.objects import ObjectMeta
from shared.policies import Policies, load_defaults
from shared.settings import Environment
from shared.whitelist import Whitelist


class _Policies(msgspec.Struct, frozen=True):
    items: list[ImagePolicy]


class _Namespace(msgspec.Struct, frozen=True):
    metadata: ObjectMeta


_NAMESPACE = msgspec.json.Decoder(_Namespace)


async def policies(cluster: Cluster, environment: Environment) -> Policies:
    """The cluster's. Raises `Unavailable`, `Refused`, `BadSetting`."""
    answer = await cluster.request("GET", PATH)
    return _ready(msgspec.json.decode(answer, type=_Policies).items, environment)


def policies_of_file(path: Path, environment: Environment) -> Policies:
    """Those of a file, as a gateway without a cluster reads it. Raises `BadSetting`."""
    return _ready(policies_file.read(path), environment)


async def whitelist(cluster: Cluster, environment: Environment) -> Whitelist:
    """The cluster's. Raises `Unavailable`, `Refused`, `BadSetting`."""
    found = no_whitelist(environment)
    found.replace(await items(cluster))
    return found


def no_whitelist(environment: Environment) -> Whitelist:
    """One without items."""
    return Whitelist(cluster_wide=environment.flag("MOORGATE_WHITELIST_CLUSTER_WIDE", default=True))


async def labels(cluster: Cluster, namespace: str) -> Mapping[str, str] | None:
    """A namespace's; None where there is none of the name. Raises `Unavailable`, `Refused`, `BadSetting`."""
    found = await cluster.get(object_path("/api/v1/namespaces", namespace), _NAMESPACE)
    return found.metadata.labels if found else None


def labels_of_new(namespace: str, given: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """Those that a namespace has as soon as it is made."""
    return {**(given or {}), NAME_LABEL: namespace}


def _ready(found: list[ImagePolicy], environment: Environment) -> Policies:
    feed = PolicyFeed(load_defaults(environment))
    feed.replace(found)
    return feed.rules
