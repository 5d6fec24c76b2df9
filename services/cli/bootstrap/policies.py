"""The bundles in Anchore: uploaded, kept as they should be, and one of them active.

A bundle that is there is changed by PUT of its whole record, active or not as it was: a POST under the active bundle's id
would leave the account without one, and until somebody noticed every check would fail. One that is the same is not touched,
so nobody's verdicts go stale at an upgrade.
"""

from typing import Any
from urllib.parse import quote

import msgspec

from services.cli.bootstrap import formats
from services.cli.bootstrap.anchore import Anchore
from services.cli.bootstrap.bundle import Bundle
from services.cli.bootstrap.plan import Failed, Plan, Verb
from shared.anchore import AnchoreApi


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle as Anchore keeps it."""

    bundle_id: str
    is_active: bool
    content: dict[str, Any]
    """All of it: a PUT wants it back."""
    body_key: str
    """Where in it the bundle stands, which is each API's own."""

    @property
    def bundle(self) -> Bundle | None:
        """The bundle; None where it is none that we can read."""
        try:
            return formats.read(self.content.get(self.body_key))
        except msgspec.ValidationError:
            return None


async def set_up_bundles(
    plan: Plan, anchore: Anchore | None, bundles: tuple[Bundle, ...], active: str | None
) -> None:
    """Upload what differs, then activate. `anchore` None: nothing is there yet. Raises `Failed` and the adapters' errors."""
    present = await records(anchore) if anchore else {}
    for bundle in bundles:
        if not bundle.has_catch_all:
            plan.note(
                Verb.WARNING,
                f"bundle {bundle.id}: no mapping for all images (registry, repository and tag *): the others pass",
            )
        await _upload(plan, anchore, bundle, present.get(bundle.id))
    if active is not None:
        await _activate(plan, anchore, active, {each.id for each in bundles}, present)


async def _upload(plan: Plan, anchore: Anchore | None, bundle: Bundle, present: Record | None) -> None:
    what = f"bundle {bundle.id}"
    if present is None:
        await plan.change(Verb.CREATED, what, lambda: _post(anchore, bundle))
    elif present.bundle == bundle:
        plan.note(Verb.UNCHANGED, what)
    else:
        await plan.change(
            Verb.UPDATED, what, lambda: _put(anchore, present, bundle, is_active=present.is_active)
        )


async def _activate(
    plan: Plan, anchore: Anchore | None, active: str, uploaded: set[str], before: dict[str, Record]
) -> None:
    what = f"bundle {active}"
    if active in before and before[active].is_active:
        plan.note(Verb.UNCHANGED, f"{what} is active")
        return
    if anchore is not None and active not in uploaded and active not in before:
        raise Failed(f"bundles.active: Anchore has no bundle {active!r}, and none is uploaded")

    async def act() -> None:
        record = (await records(_present(anchore))).get(active)
        if record is None:
            raise Failed(f"{what} is gone again: somebody else deletes bundles")
        await _put(anchore, record, record.bundle, is_active=True)

    await plan.change(Verb.ACTIVATED, what, act)


async def records(anchore: Anchore) -> dict[str, Record]:
    """All bundles of the account by their ids. Raises `Unavailable`, `Refused`."""
    id_key, body_key = (
        ("policyId", "policybundle") if anchore.api is AnchoreApi.V1 else ("policy_id", "policy")
    )
    found = await anchore.get("/policies", list[dict[str, Any]], {"detail": "true"}) or []
    kept = [
        Record(
            bundle_id=str(each.get(id_key)),
            is_active=each.get("active") is True,
            content=each,
            body_key=body_key,
        )
        for each in found
    ]
    return {each.bundle_id: each for each in kept}


async def _post(anchore: Anchore | None, bundle: Bundle) -> None:
    anchore = _present(anchore)
    await anchore.send("POST", "/policies", formats.write(bundle, anchore.api))


async def _put(anchore: Anchore | None, record: Record, bundle: Bundle | None, *, is_active: bool) -> None:
    """The whole record, with this bundle (None: the one that is there)."""
    anchore = _present(anchore)
    document = formats.write(bundle, anchore.api) if bundle else record.content[record.body_key]
    body = {**record.content, record.body_key: document, "active": is_active}
    if bundle:
        body["name"] = bundle.name
    query = {"active": "true"} if is_active else None
    await anchore.send("PUT", f"/policies/{quote(record.bundle_id, safe='')}", body, query)


def _present(anchore: Anchore | None) -> Anchore:
    if anchore is None:
        raise Failed("there is no account in Anchore yet")
    return anchore
