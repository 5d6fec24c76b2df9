"""What the candidate would change: both judgements of each image, put together by workload, release and namespace. Pure."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from services.cli.what_if.judging import Compared
from services.cli.what_if.uses import Subject, Use, judge_of
from services.scanner.evaluation import Judged
from shared.contracts import Reason, Result


class Fate(StrEnum):
    """What would become of an image, or of a release; the first that is true of one of its images counts."""

    BREAKS = "would break"
    LET_IN = "fails, let in"
    """It would fail, and be let in all the same: whitelisted, or its mode refuses nothing."""
    UNKNOWN = "not known"
    FAILS = "fails either way"
    MENDED = "would be mended"
    PASSES = "passes either way"
    ASIDE = "not touched"
    """The candidate would not judge it."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One image of one workload."""

    use: Use
    fate: Fate
    why: str = ""
    """What there is to say of it, for people."""
    before: Judged | None = None
    after: Judged | None = None

    @property
    def newly(self) -> tuple[Reason, ...]:
        """What would stop it and does not now."""
        if self.fate not in (Fate.BREAKS, Fate.LET_IN) or self.before is None or self.after is None:
            return ()
        known = {_identity(each) for each in self.before.reasons if each.action == "stop"}
        stopping = [each for each in self.after.reasons if each.action == "stop"]
        return tuple([each for each in stopping if _identity(each) not in known] or stopping)


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A release in a namespace."""

    name: str
    namespace: str
    images: tuple[Seen, ...]

    @property
    def fate(self) -> Fate:
        """The gravest of its images."""
        fates = {each.fate for each in self.images}
        return next(each for each in Fate if each in fates)

    def count(self, fate: Fate) -> int:
        """How many different images of it."""
        return len({(each.use.image, each.use.digest) for each in self.images if each.fate is fate})


Standing = tuple[Fate, str]
"""Where an image stands before anybody is asked, and why."""


def standing(use: Use, replaced: Mapping[str, str], troubles: Mapping[str, str]) -> Standing | None:
    """Why the candidate judges the image not, or cannot be asked about it; None: it is to be checked.

    `replaced`: by tenant, the bundle whose place the candidate takes; `troubles`: why tenants cannot be asked.
    """
    rule = use.rule
    if use.aside:
        return Fate.ASIDE, use.aside
    if not use.reference:
        return Fate.UNKNOWN, "it is no image reference"
    if rule.tenant in troubles:
        return Fate.UNKNOWN, troubles[rule.tenant]
    if use.bundle != replaced[rule.tenant]:
        return (
            Fate.ASIDE,
            f"judged by {f'bundle {use.bundle}' if use.bundle else 'no bundle'}, by {judge_of(rule)}",
        )
    if not use.digest:
        return Fate.UNKNOWN, "no kubelet has reported its digest, and no Audit has one"
    return None


def seen(use: Use, where: Standing | None, compared: Mapping[Subject, Compared]) -> Seen:
    """What would become of one image. `where`: its standing."""
    if where is not None:
        return Seen(use=use, fate=where[0], why=where[1])
    found = compared[use.subject]
    if found.before is None or found.after is None:
        return Seen(use=use, fate=Fate.UNKNOWN, why=found.trouble)
    fate, why = _fate(use, found.before.result, found.after.result)
    return Seen(use=use, fate=fate, why=why, before=found.before, after=found.after)


def by_release(all_seen: Iterable[Seen]) -> list[Release]:
    """The gravest first, then by namespace and name."""
    groups: dict[tuple[str, str], list[Seen]] = {}
    for each in all_seen:
        groups.setdefault((each.use.namespace, each.use.release), []).append(each)
    found = [
        Release(name=name, namespace=namespace, images=tuple(images))
        for (namespace, name), images in groups.items()
    ]
    order = list(Fate)
    return sorted(found, key=lambda each: (order.index(each.fate), each.namespace, each.name))


def _fate(use: Use, before: Result, after: Result) -> tuple[Fate, str]:
    if after is Result.PASS:
        return (Fate.PASSES if before is Result.PASS else Fate.MENDED), ""
    if before is Result.FAIL:
        return Fate.FAILS, use.let_in_by
    if use.let_in_by:
        return Fate.LET_IN, use.let_in_by
    return Fate.BREAKS, f"after {use.grace}" if use.grace else ""


def _identity(reason: Reason) -> tuple[str, str, str]:
    return reason.gate, reason.trigger, reason.trigger_id or reason.text
