"""Policy bundles: add, read, change, activate, delete.

The traps are the real server's: a POST under the active bundle's id leaves the account without an active bundle, there is no
way to deactivate one with PUT, and a change of the one active bundle is in force in the next check.
"""

import hashlib

from deploy.dev.anchore.calls import Call
from deploy.dev.anchore.errors import refused
from deploy.dev.anchore.evaluation.validation import problems_of
from deploy.dev.anchore.records import PolicyRecord
from deploy.dev.anchore.wire import Json, JsonObject, encode


def listing(call: Call) -> Json:
    """Without bundles unless `detail=true`."""
    is_detailed = call.flag("detail")
    return [_show(policy, is_detailed=is_detailed) for policy in call.space.policies.values()]


def get(call: Call) -> Json:
    """A list with the one record, with its bundle unless `detail=false`."""
    return [_show(_wanted(call), is_detailed=call.flag("detail", default=True))]


def add(call: Call) -> Json:
    """One object, not a list; an id that is there already is overwritten, and inactive from then on."""
    bundle: JsonObject = call.body
    _validate(call, bundle)
    present = call.space.policies.get(bundle["id"])
    created = present.created if present else call.now
    policy = PolicyRecord(
        account=call.space.account, bundle=_stored(bundle), active=False, created=created, updated=call.now
    )
    call.space.keep_policy(policy)
    return _show_changed(policy, is_new=present is None)


def update(call: Call) -> Json:
    """Takes the whole record; `active=true`, in the query or the record, makes it the active one."""
    policy = _wanted(call)
    body: JsonObject = call.body
    if body.get("policyId", policy.policy_id) != policy.policy_id:
        text = f"policyId in route is different from policyId in payload: {policy.policy_id} != {body['policyId']}"
        raise refused(500, text)
    wants_active = call.flag("active") or bool(body.get("active"))
    if policy.active and not wants_active:
        raise refused(500, "cannot deactivate an active policy - can only activate an inactive policy")
    bundle = body.get("policybundle")
    if bundle:
        _validate(call, bundle)
        policy.bundle = _stored(bundle)
    if wants_active and not policy.active:
        _activate(call, policy)
    policy.updated = call.now
    call.space.keep_policy(policy)
    if wants_active:
        _move_former_active_to_the_end(call, policy)
    return [_show_changed(policy, is_new=False)]


def delete(call: Call) -> Json:
    """Its evaluations go with it."""
    policy = _wanted(call)
    if policy.active:
        raise refused(
            500, "cannot delete an active policy - activate a different policy then delete this one"
        )
    del call.space.policies[policy.policy_id]
    for key in [key for key, kept in call.space.history.items() if kept.policy_id == policy.policy_id]:
        del call.space.history[key]
    return "deleted"


def _wanted(call: Call) -> PolicyRecord:
    policy = call.space.policies.get(call.path["policy_id"])
    if policy is None:
        raise refused(404, f"Policy bundle {call.path['policy_id']} not found in DB")
    return policy


def _validate(call: Call, bundle: JsonObject) -> None:
    if "policy_engine" in call.engine.down:
        text = (
            "Error response from policy service during bundle validation. Validation could not be performed: "
            "failed post url=http://127.0.0.1:8232/v1/validate_bundle"
        )
        raise refused(500, text)
    found = problems_of(bundle)
    if found:
        raise refused(400, "Bundle failed validation", validation_details=found)


def _activate(call: Call, policy: PolicyRecord) -> None:
    former = call.space.active_policy()
    if former is not None:
        former.active, former.updated = False, call.now
    policy.active = True
    details = {
        "active_policy_bundle_id": policy.policy_id,
        "last_policy_bundle_id": former.policy_id if former else None,
    }
    call.engine.record_event(
        call.space.account,
        "user.policy.active.updated",
        ("policy", policy.policy_id),
        message="Active policy bundle changed",
        details=details,
    )


def _move_former_active_to_the_end(call: Call, policy: PolicyRecord) -> None:
    changed = [
        other for other in call.space.policies.values() if other.updated == call.now and other is not policy
    ]
    for other in changed:
        call.space.keep_policy(other)


def _stored(bundle: JsonObject) -> JsonObject:
    return {name: value for name, value in bundle.items() if name not in {"active", "last_updated"}}


def _show(policy: PolicyRecord, *, is_detailed: bool) -> JsonObject:
    shown = policy.show()
    shown["policybundle"] = policy.bundle if is_detailed else {}
    shown["policybundlemeta"] = _meta(policy) if is_detailed else {}
    return shown


def _show_changed(policy: PolicyRecord, *, is_new: bool) -> JsonObject:
    bundle = {**policy.bundle, "active": policy.active}
    if not is_new:
        bundle["last_updated"] = int(policy.updated)
    return {**policy.show(), "policybundle": bundle}


def _meta(policy: PolicyRecord) -> JsonObject:
    """The record of the object store; its digest changes with the bundle's content."""
    name, text = policy.policy_id, encode(policy.bundle)
    return {
        "archiveId": name,
        "bucket": "policy_bundles",
        "content_url": f"db://{policy.account}/policy_bundles/{name}",
        "created_at": int(policy.created),
        "digest": hashlib.md5(text, usedforsecurity=False).hexdigest(),
        "documentName": f"{name}.json",
        "document_metadata": None,
        "is_compressed": False,
        "last_updated": int(policy.updated),
        "record_state_key": "active",
        "record_state_val": None,
        "size": len(text),
        "userId": policy.account,
    }
