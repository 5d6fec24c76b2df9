"""Where rules and verdicts come from: the cluster, or a file of policies without one, and the gateways' micro service."""

import asyncio
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from services.cli import check, rule_sources
from services.cli.frame import ClusterFlags, NatsFlags
from services.cli.manifest.files import Found
from services.cli.manifest.judging import Answered, Prepared, Question, Rules, Told, prepare, tell
from shared import images
from shared.broker import Broker
from shared.cluster import Cluster
from shared.contracts import Outcome, TenantRecord
from shared.evidence import Evidence
from shared.policies import Policies
from shared.releases import DEFAULT_LABELS
from shared.settings import Environment
from shared.tenants import DEFAULT_TENANT
from shared.verdict_store import VerdictBuckets


async def rules(found: Found, file: Path | None, cluster: ClusterFlags) -> Rules:
    """What judges. Raises `Unavailable`, `Refused`, `BadSetting`."""
    environment = Environment(os.environ)
    release_labels = environment.words("MOORGATE_RELEASE_LABELS", DEFAULT_LABELS)
    names = {each.workload.namespace for each in found.manifests}
    if file is not None:
        return Rules(
            policies=rule_sources.policies_of_file(file, environment),
            whitelist=rule_sources.no_whitelist(environment),
            labels={name: rule_sources.labels_of_new(name) for name in names},
            release_labels=release_labels,
        )
    async with cluster.cluster() as api:
        return Rules(
            policies=await rule_sources.policies(api, environment),
            whitelist=await rule_sources.whitelist(api, environment),
            labels={name: await _labels(api, name, found) for name in names},
            release_labels=release_labels,
        )


async def _labels(api: Cluster, name: str, found: Found) -> Mapping[str, str]:
    """As the manifests would have them, else as they are, else those of one that is yet to be made."""
    if name in found.namespaces:
        return rule_sources.labels_of_new(name, found.namespaces[name])
    return await rule_sources.labels(api, name) or rule_sources.labels_of_new(name)


class Road(NamedTuple):
    """How NATS is reached."""

    nats: NatsFlags
    context: str | None


async def told(found: Found, judges: Rules, road: Road, seconds: float) -> list[Told]:
    """What becomes of each workload; unknown images are scanned, and waited for so long. Raises `Unavailable`."""
    async with road.nats.broker(road.context) as broker:
        records = await _tenants(broker, judges.policies)
        prepared = prepare(found.manifests, judges, records.get, datetime.now(UTC))
        known = await _answers(broker, prepared, seconds)
    now = datetime.now(UTC)
    return [tell(each, known, now) for each in prepared]


async def _tenants(broker: Broker, policies: Policies) -> Mapping[str, TenantRecord | None]:
    buckets = VerdictBuckets(broker)
    names = {DEFAULT_TENANT, *(policy.spec.tenant for policy in policies)}
    return {name: await buckets.tenant(name) for name in names}


async def _answers(broker: Broker, prepared: list[Prepared], seconds: float) -> dict[Question, Answered]:
    """Each question asked once, however many workloads have the image."""
    questions = list(dict.fromkeys(one for each in prepared for one in each.questions if one))
    limit = asyncio.Semaphore(check.AT_ONCE)

    async def ask(question: Question) -> Answered:
        asked = check.Question(
            question.reference, images.parse(question.reference), question.tenant, question.bundle_id, seconds
        )
        async with limit:
            return _answered(await check.find_out(broker, asked, check.progress))

    return dict(zip(questions, await asyncio.gather(*map(ask, questions)), strict=True))


def _answered(checked: check.Checked) -> Answered:
    found = checked.answer
    if found is None:
        return Answered(Evidence(outcome=Outcome.ERROR, error_message=checked.trouble))
    evidence = Evidence(
        outcome=found.outcome,
        verdict=found.verdict,
        error=found.error,
        error_message=found.error_message,
        pending_since=found.pending_since,
        next_look=found.next_look,
        digest=found.digest,
        is_stale_pass=found.is_stale,
    )
    return Answered(evidence, found.bundle_id)
