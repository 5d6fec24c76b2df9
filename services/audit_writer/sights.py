"""What is seen of one image now: whose verdict counts, the verdict itself, and what runs; and what is recorded by it.

The rule of digests. An Audit's digest is that of the manifest that was judged *for what runs*, so that a running
digest which is neither it nor its list's means `unverified`. A later verdict brings its digest along only where it
is about what runs (every running digest is the verdict's or its list's), or where none was recorded yet. Else the
tag means another image by now: the verdict is recorded, for the next Pod will meet it, and the digest stays.
Pure: values in, values out.
"""

import msgspec

from services.audit_writer.judgements import Judgement
from services.audit_writer.limits import MAX_TEXT, cut
from shared.contracts import FlipCause, Reason, Result, Verdict
from shared.crds import AuditImage
from shared.verdicts import StoredVerdict

MAX_REASONS = 5
"""Findings kept of an image in its Audit, as many as a decision brings; the verdict has them all."""


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """One image of an Audit as it stands now."""

    judgement: Judgement
    stored: StoredVerdict
    """Of the bundle's content in force."""
    digests: frozenset[str] = frozenset()
    """What runs under the reference; empty: nothing is reported."""
    is_running: bool = True
    whitelist_item: str = ""
    """The item that covers it now."""

    @property
    def verdict(self) -> Verdict:
        """The verdict without its revision."""
        return self.stored.verdict

    @property
    def result(self) -> Result:
        """What Anchore says."""
        return self.stored.verdict.result


def is_counted(verdict: StoredVerdict | None, judgement: Judgement) -> bool:
    """Whether the verdict is about the bundle as it is now: of another content it waits for its re-scan."""
    if verdict is None:
        return False
    return judgement.bundle_hash in (None, verdict.verdict.bundle_hash)


def rejudged(image: AuditImage, sight: Sight) -> AuditImage:
    """The image as the verdict has it."""
    verdict, judgement = sight.verdict, sight.judgement
    digest, list_digest = _digests(image, sight)
    return msgspec.structs.replace(
        image,
        verdict=verdict.result.value,
        digest=digest,
        list_digest=list_digest,
        bundle=cut(judgement.bundle_id, MAX_TEXT),
        bundle_hash=verdict.bundle_hash,
        policy=cut(judgement.policy or "", MAX_TEXT),
        tenant=judgement.tenant,
        evaluated_at=verdict.evaluated_at,
        grace_until=image.grace_until if verdict.result is Result.FAIL else None,
        reasons=tuple(_cut(reason) for reason in verdict.reasons[:MAX_REASONS]),
        whitelist_item=image.whitelist_item or sight.whitelist_item,
        error="",
    )


def is_news(before: AuditImage, after: AuditImage) -> bool:
    """Whether a record changes by more than when it was evaluated and by which findings: re-scans are no news."""
    kept = msgspec.structs.replace(after, evaluated_at=before.evaluated_at, reasons=before.reasons)
    return kept != before


def cause(image: AuditImage, sight: Sight) -> FlipCause:
    """What turned the verdict, by what the record was judged by."""
    verdict, judgement = sight.verdict, sight.judgement
    if image.verdict == "not_asked" or (
        image.bundle and (image.tenant, image.bundle) != (judgement.tenant, judgement.bundle_id)
    ):
        return FlipCause.POLICY
    known = {image.digest, image.list_digest} - {""}
    if judgement.is_mutable and known and not known & {verdict.digest, verdict.list_digest}:
        return FlipCause.TAG
    if image.bundle_hash and image.bundle_hash != verdict.bundle_hash:
        return FlipCause.BUNDLE
    return FlipCause.FEED


def new_reasons(image: AuditImage, verdict: Verdict) -> tuple[Reason, ...]:
    """Findings that the record lacks; after a turn to pass those that stopped it and are gone."""
    if verdict.result is Result.PASS:
        there = {_identity(each) for each in verdict.reasons}
        return tuple(each for each in image.reasons if each.action == "stop" and _identity(each) not in there)
    known = {_identity(each) for each in image.reasons}
    return tuple(each for each in verdict.reasons if _identity(each) not in known)


def _digests(image: AuditImage, sight: Sight) -> tuple[str, str]:
    verdict = sight.verdict
    judged = {verdict.digest, verdict.list_digest}
    is_what_runs = bool(sight.digests) and sight.digests <= judged
    if is_what_runs or not image.digest:
        return verdict.digest, verdict.list_digest
    return image.digest, image.list_digest


def _identity(reason: Reason) -> tuple[str, ...]:
    """Anchore's own id where it gives one; texts of a record may be cut."""
    if reason.trigger_id:
        return reason.gate, reason.trigger, reason.trigger_id[:MAX_TEXT]
    return reason.gate, reason.trigger, cut(reason.text, MAX_TEXT)


def _cut(reason: Reason) -> Reason:
    return msgspec.structs.replace(reason, text=cut(reason.text, MAX_TEXT))
