"""Policies: the bundles of v1 in v2's spelling (`evaluation/formats.py`); one object wherever v1 answers a list of one.

Unlike v1, a POST under an id that is there already is 409, as v2's description says, and overwrites nothing. Without `detail`
a record's policy is null. Guessed: the default of `detail`, which is v1's (false in the list, true for one).
"""

from deploy.dev.anchore.api import policies
from deploy.dev.anchore.api_v2 import shapes
from deploy.dev.anchore.calls import NO_CONTENT, Call
from deploy.dev.anchore.errors import refused
from deploy.dev.anchore.evaluation import formats
from deploy.dev.anchore.evaluation.validation import version_problem
from deploy.dev.anchore.wire import Json, JsonObject


def listing(call: Call) -> Json:
    """Without policies unless `detail=true`."""
    return [_show(record) for record in policies.listing(call)]


def get(call: Call) -> Json:
    """One record."""
    [record] = policies.get(call)
    return _show(record)


def add(call: Call) -> Json:
    """The new record, inactive."""
    if call.body["id"] in call.space.policies:
        raise refused(409, "Policy already exists")
    return _show(policies.add(call.asked(body=_bundle(call.body))))


def update(call: Call) -> Json:
    """Takes the whole record, as v1 does, and activates it where `active` says so."""
    body: JsonObject = {"active": call.body.get("active", False)}
    if "policy_id" in call.body:
        body["policyId"] = call.body["policy_id"]
    if call.body.get("policy") is not None:
        body["policybundle"] = _bundle(call.body["policy"])
    [record] = policies.update(call.asked(body=body))
    return _show(record)


def delete(call: Call) -> Json:
    """204; the active one can't be deleted."""
    policies.delete(call)
    return NO_CONTENT


def _bundle(policy: JsonObject) -> JsonObject:
    if policy["version"] != formats.POLICY_VERSION:
        problem = version_problem(policy["version"], [formats.POLICY_VERSION])
        raise refused(400, "Bundle failed validation", validation_details=[problem])
    return formats.to_bundle(policy)


def _show(record: JsonObject) -> JsonObject:
    bundle = record["policybundle"]
    shown = shapes.renamed(record, ("policybundle", "policybundlemeta"))
    return {**shown, "policy": formats.to_policy(bundle) if bundle else None}
