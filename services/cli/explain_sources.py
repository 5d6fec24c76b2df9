"""Where the story of a decision comes from: Audit, ImagePolicies, whitelist and namespace from the API server, verdicts from NATS.

Each source that cannot be read becomes a note and leaves the others.
"""

import os
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from services.cli import frame, rule_sources
from services.cli.explain_story import ImageStory, Story, advice
from services.cli.explain_target import Target
from services.cli.frame import NatsFlags
from shared import crds, images, subjects
from shared.cluster import Cluster, object_path
from shared.contracts import TenantRecord
from shared.crds import Audit
from shared.errors import BadImage, MoorgateError
from shared.evidence import Known, weigh
from shared.images import ImageReference
from shared.policies import Policies
from shared.releases import DEFAULT_LABELS, Release
from shared.settings import Environment
from shared.tenants import DEFAULT_TENANT
from shared.verdict_store import VerdictBuckets
from shared.verdicts import StoredVerdict
from shared.whitelist import Whitelist, covers_image

_AUDIT = msgspec.json.Decoder(Audit)

T = TypeVar("T")


class Sources:
    """One look at everything."""

    def __init__(self, cluster: Cluster, nats: NatsFlags, context: str | None) -> None:
        self._cluster = cluster
        self._nats = nats
        self._context = context
        self._environment = Environment(os.environ)
        self._notes: list[str] = []

    async def story(self, target: Target) -> Story | None:
        """What there is to tell; None: no record and no such thing. Raises what reading the Audit raises."""
        audit = await self._audit(target)
        if audit is None and not target.exists:
            return None
        release = self._release(target, audit)
        rules = await self._seen(self._rules(target.namespace))
        whitelist = await self._seen(rule_sources.whitelist(self._cluster, self._environment))
        plain = _images(target, audit)
        known = await self._seen(self._known(plain, rules))
        now = datetime.now(UTC)
        return Story(
            what=target.title,
            namespace=target.namespace,
            release=release.recorded,
            audit=audit,
            images=tuple(
                _advised(each, whitelist, release, target.namespace, now) for each in known or plain
            ),
            notes=tuple(self._notes),
        )

    async def _audit(self, target: Target) -> Audit | None:
        for name in target.audits:
            path = object_path(crds.audits_path(target.namespace), name)
            if found := await self._cluster.get(path, _AUDIT):
                return found
        return None

    def _release(self, target: Target, audit: Audit | None) -> Release:
        if audit:
            name = audit.spec.release_name
            is_fake = audit.metadata.labels.get(crds.FAKE_RELEASE_LABEL) == "true"
            return Release(name=name, is_fake=is_fake, recorded=name)
        for label in self._environment.words("MOORGATE_RELEASE_LABELS", DEFAULT_LABELS):
            if given := target.labels.get(label):
                return Release(name=given, is_fake=False, recorded=given)
        name = target.title.rpartition("/")[2]
        return Release(name=name, is_fake=True, recorded=name)

    async def _rules(self, namespace: str) -> "_Rules":
        policies = await rule_sources.policies(self._cluster, self._environment)
        return _Rules(policies, await rule_sources.labels(self._cluster, namespace))

    async def _known(self, plain: list[ImageStory], rules: "_Rules | None") -> list[ImageStory]:
        """With the rule that judges each image now, and what the buckets have under that rule's key."""
        async with self._nats.broker(self._context) as broker:
            buckets = VerdictBuckets(broker)
            tenants = rules.tenants() if rules else set()
            tenants |= {each.recorded.tenant for each in plain if each.recorded and each.recorded.tenant}
            records = {name: await buckets.tenant(name) for name in tenants}
            return [await _known_of(each, rules, records, buckets) for each in plain]

    async def _seen(self, reading: Awaitable[T]) -> T | None:
        """What was read, or None and a note."""
        try:
            return await reading
        except (MoorgateError, msgspec.MsgspecError) as error:
            self._notes.append(frame.explain(error))
            return None


class _Rules(msgspec.Struct, frozen=True):
    """What judges an image in one namespace."""

    policies: Policies
    labels: Mapping[str, str] | None
    """The namespace's."""

    def tenants(self) -> set[str]:
        """Whom any of them names."""
        return {DEFAULT_TENANT, *(policy.spec.tenant for policy in self.policies)}


async def _known_of(
    image: ImageStory,
    rules: _Rules | None,
    records: Mapping[str, TenantRecord | None],
    buckets: VerdictBuckets,
) -> ImageStory:
    reference, parsed = _normal(image.image), _parsed(image.image)
    rule = rules.policies.rule_for(rules.labels, reference, image.image, records.get) if rules else None
    recorded = image.recorded
    tenant, bundle = (recorded.tenant, recorded.bundle) if recorded else ("", "")
    if rule:
        judge = records.get(rule.tenant)
        tenant = rule.tenant
        bundle = rule.bundle_id or (judge.active_bundle_id if judge else None) or ""
    key = subjects.verdict_key(tenant, bundle, reference)
    verdict, revision = await buckets.verdict(key)
    state, _ = await buckets.state(key)
    record = records.get(tenant)
    known = (
        Known(
            reference=parsed,
            stored=StoredVerdict(verdict, revision) if verdict else None,
            state=state,
            bundle_hash=record.bundles.get(bundle) if record else None,
            is_anchore_away=record is not None and record.away_since is not None,
        )
        if parsed
        else None
    )
    evidence = weigh(known, datetime.now(UTC)) if known else None
    return msgspec.structs.replace(
        image, rule=rule, bundle_id=bundle, verdict=verdict, state=state, evidence=evidence
    )


def _advised(
    image: ImageStory, whitelist: Whitelist | None, release: Release, namespace: str, now: datetime
) -> ImageStory:
    if whitelist is not None:
        names = tuple(
            item.metadata.name
            for item in whitelist.covering(release, namespace, now)
            if covers_image(item, _normal(image.image), image.image)
        )
        image = msgspec.structs.replace(image, whitelist_items=names)
    return msgspec.structs.replace(image, advice=advice(image, release.recorded, namespace))


def _images(target: Target, audit: Audit | None) -> list[ImageStory]:
    """Those of the record; where there is none, those that the Pods will name."""
    if audit:
        return [
            ImageStory(container=f"{each.container_kind} {each.container}", image=each.image, recorded=each)
            for each in audit.spec.images
        ]
    return [ImageStory(container=f"{each.kind} {each.container}", image=each.image) for each in target.images]


def _normal(image: str) -> str:
    """As keys and globs have it; a text that is no reference stays as it is."""
    parsed = _parsed(image)
    return str(parsed) if parsed else image


def _parsed(image: str) -> ImageReference | None:
    try:
        return images.parse(image)
    except BadImage:
        return None
