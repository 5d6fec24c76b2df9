"""What runs, as the API server tells it: Pods in pages, gathered into workloads by the code that takes the inventory.

The Pods themselves, not the Audits or the bucket of what runs: those are as old as the last inventory, and an old ReplicaSet
keeps its Audit while nothing of it runs. An Audit only lends a digest where kubelets report none.
Needs `list` of pods, namespaces, imagepolicies, whitelistitems and audits; of validatingwebhookconfigurations too, or it says that
it could not look.
"""

from collections.abc import Callable, Mapping

import msgspec

from services.audit_writer import listed
from services.audit_writer.gathering import Gathering
from services.cli import rule_sources
from services.cli.audits_feed import Selection, read
from services.cli.doctor.registration import Configuration
from services.cli.manifest.judging import Rules
from services.cli.webhooks_cluster import PATH as WEBHOOKS
from services.cli.what_if.uses import Scene
from shared.cluster import Cluster, pages
from shared.errors import BadSetting, Refused
from shared.policies import matches
from shared.releases import DEFAULT_LABELS
from shared.settings import Environment


class _Configurations(msgspec.Struct, frozen=True):
    items: list[Configuration]


async def scene(
    cluster: Cluster, namespace: str | None, environment: Environment, say: Callable[[str], None]
) -> Scene:
    """What runs now, of one namespace or of all. Raises `Unavailable`, `Refused`, `BadSetting`."""
    release_labels = environment.words("MOORGATE_RELEASE_LABELS", DEFAULT_LABELS)
    labels = await _labels(cluster, namespace)
    gathering = Gathering(release_labels)
    path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
    async for page in pages(cluster, path, listed.PODS.decode):
        for pod in page.items:
            gathering.add(pod)
    rules = Rules(
        policies=await rule_sources.policies(cluster, environment),
        whitelist=await rule_sources.whitelist(cluster, environment),
        labels=labels,
        release_labels=release_labels,
    )
    return Scene(
        workloads=tuple(gathering.workloads().values()),
        rules=rules,
        unasked=await _unasked(cluster, labels, say),
        judged_digests=await _judged_digests(cluster, namespace),
    )


async def _labels(cluster: Cluster, namespace: str | None) -> Mapping[str, Mapping[str, str]]:
    if namespace is None:
        found_all = pages(cluster, "/api/v1/namespaces", listed.NAMESPACES.decode)
        return {each.metadata.name: each.metadata.labels async for page in found_all for each in page.items}
    found = await rule_sources.labels(cluster, namespace)
    if found is None:
        raise BadSetting(f"--namespace is {namespace!r}: the cluster has no such namespace")
    return {namespace: found}


async def _unasked(
    cluster: Cluster, labels: Mapping[str, Mapping[str, str]], say: Callable[[str], None]
) -> frozenset[str]:
    """Where Pods start without a question. While nothing is registered at all, everything counts as asked about."""
    try:
        answer = await cluster.request("GET", WEBHOOKS)
    except Refused as error:
        say(f"which namespaces the webhooks leave out could not be seen, all count: {error}")
        return frozenset()
    found = msgspec.json.decode(answer, type=_Configurations).items
    for_pods = [
        webhook
        for each in found
        if each.is_ours
        for webhook in each.webhooks
        if webhook.asks_about("pods", "CREATE")
    ]
    if not for_pods:
        return frozenset()
    return frozenset(
        name
        for name, its in labels.items()
        if not any(matches(webhook.namespace_selector, its) for webhook in for_pods)
    )


async def _judged_digests(cluster: Cluster, namespace: str | None) -> Mapping[tuple[str, str, str], str]:
    audits, _ = await read(cluster, Selection(namespace=namespace or ""))
    return {
        (audit.metadata.namespace, audit.metadata.name, image.image): image.digest
        for audit in audits
        for image in audit.spec.images
        if image.digest
    }
