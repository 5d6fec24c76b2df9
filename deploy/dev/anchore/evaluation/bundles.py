"""Judges one image under one bundle: mapping, rules, whitelists, lists of images, and the table of rows that comes of it.

As in the real server: the first mapping that matches decides; without one the image passes; a whitelisted row counts as go;
an image on the black list fails whatever the rules say, and one on the white list passes unless it is on the black list too.
Newer bundles say deny/allow for black/white; both are read.
"""

import fnmatch
import re
from collections.abc import Iterator

import msgspec

from deploy.dev.anchore import references
from deploy.dev.anchore.evaluation.gates import GATES
from deploy.dev.anchore.evaluation.subject import Match, Subject
from deploy.dev.anchore.wire import JsonObject

HEADER = [
    *(
        "Image_Id",
        "Repo_Tag",
        "Trigger_Id",
        "Gate",
        "Trigger",
        "Check_Output",
        "Gate_Action",
        "Whitelisted",
        "Policy_Id",
    ),
]

_ORDER = {"stop": 0, "warn": 1, "go": 2}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One firing of one rule."""

    match: Match
    gate: str
    trigger: str
    action: str
    """go, where it is pardoned."""
    rule: JsonObject
    policy_id: str
    """The policy of the bundle that the rule stands in."""
    pardon: JsonObject | None
    """The item of a whitelist, and which list it stands in."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle says of an image, before either API has put it into its own words."""

    bundle: JsonObject
    mapping: JsonObject | None
    blacklisted: JsonObject | None
    whitelisted: JsonObject | None
    findings: tuple[Finding, ...]
    judged: str
    """What the rules alone say."""
    final: str
    reason: str

    @property
    def status(self) -> str:
        """Stop is fail, all else is pass."""
        return "fail" if self.final == "stop" else "pass"


def judge(bundle: JsonObject, subject: Subject) -> Judgement:
    """Black list before white list before rules."""
    blacklisted = _first_rule(bundle, ("blacklisted_images", "denylisted_images"), subject)
    whitelisted = _first_rule(bundle, ("whitelisted_images", "allowlisted_images"), subject)
    mapping = next((rule for rule in bundle["mappings"] if _matches(rule, subject)), None)
    findings = () if mapping is None else tuple(_findings(bundle, mapping, subject))
    judged = min((finding.action for finding in findings), key=_ORDER.__getitem__, default="go")
    if blacklisted is not None:
        final, reason = "stop", "blacklisted"
    elif whitelisted is not None:
        final, reason = "go", "whitelisted"
    else:
        final, reason = judged, "policy_evaluation"
    return Judgement(
        bundle=bundle,
        mapping=mapping,
        blacklisted=blacklisted,
        whitelisted=whitelisted,
        findings=findings,
        judged=judged,
        final=final,
        reason=reason,
    )


def evaluate(bundle: JsonObject, subject: Subject, account: str) -> JsonObject:
    """The whole of API v1's `detail.result`."""
    return show(judge(bundle, subject), subject, account)


def show(judgement: Judgement, subject: Subject, account: str) -> JsonObject:
    """A judgement as API v1 shows it: a table."""
    rows = [_row(finding, subject) for finding in judgement.findings]
    table = {"final_action": judgement.judged, "header": HEADER, "row_count": len(rows), "rows": rows}
    return {
        "bundle": judgement.bundle,
        "created_at": int(subject.now),
        "evaluation_problems": [],
        "final_action": judgement.final,
        "final_action_reason": judgement.reason,
        "image_digest": subject.digest,
        "image_id": subject.image_id,
        "last_modified": int(subject.now),
        "matched_blacklisted_images_rule": judgement.blacklisted or False,
        "matched_mapping_rule": judgement.mapping or False,
        "matched_whitelisted_images_rule": judgement.whitelisted or False,
        "result": {
            subject.image_id: {"result": table},
            "policy_data": [],
            "policy_name": "",
            "whitelist_data": [],
            "whitelist_names": [],
        },
        "status": judgement.status,
        "tag": subject.fulltag,
        "user_id": account,
    }


def _row(finding: Finding, subject: Subject) -> list[object]:
    pardon: object = False if finding.pardon is None else _show_pardon(finding.pardon)
    identity = [subject.image_id, subject.fulltag, finding.match.trigger_id, finding.gate, finding.trigger]
    return [*identity, finding.match.message, finding.action, pardon, finding.policy_id]


def _first_rule(bundle: JsonObject, names: tuple[str, str], subject: Subject) -> JsonObject | None:
    rules: list[JsonObject] = [rule for name in names for rule in bundle.get(name) or []]
    return next((rule for rule in rules if _matches(rule, subject)), None)


def _matches(rule: JsonObject, subject: Subject) -> bool:
    tag = references.read_leniently(subject.fulltag)
    if not (_glob(rule["registry"], tag.registry) and _glob(rule["repository"], tag.repository)):
        return False
    kind, value = rule["image"]["type"], rule["image"]["value"]
    if kind == "digest":
        return bool(value == subject.digest)
    if kind == "id":
        return bool(value == subject.image_id)
    return _glob(value, tag.tag or "")


def _glob(pattern: str, text: str) -> bool:
    """Only `*` means something; a list may be given with commas."""
    parts = [part.strip() for part in pattern.split(",")]
    return any(re.fullmatch(re.escape(part).replace(r"\*", ".*"), text) for part in parts)


def _findings(bundle: JsonObject, mapping: JsonObject, subject: Subject) -> Iterator[Finding]:
    single = mapping.get("policy_id")
    wanted = [single] if single else mapping.get("policy_ids") or []
    items = _whitelist_items(bundle, mapping)
    policies = {policy["id"]: policy for policy in bundle["policies"]}
    for policy_id in wanted:
        for gate_rules in _by_gate(policies[policy_id].get("rules") or []):
            for rule in gate_rules:
                yield from _firings(rule, policy_id, subject, items)


def _by_gate(rules: list[JsonObject]) -> list[list[JsonObject]]:
    """The real server runs a policy gate by gate, in the order in which the gates first appear."""
    gates: dict[str, list[JsonObject]] = {}
    for rule in rules:
        gates.setdefault(rule["gate"].lower(), []).append(rule)
    return list(gates.values())


def _firings(
    rule: JsonObject, policy_id: str, subject: Subject, items: list[JsonObject]
) -> Iterator[Finding]:
    gate, name = rule["gate"].lower(), rule["trigger"].lower()
    trigger = GATES.get(gate, {}).get(name)
    if trigger is None:
        return
    params = {
        param["name"].lower(): param["value"] for param in rule.get("params") or [] if param["value"] != ""
    }
    for match in trigger.fire(subject, params):
        pardon = next((item for item in items if _pardons(item, gate, match)), None)
        yield Finding(
            match=match,
            gate=gate,
            trigger=name,
            action="go" if pardon else rule["action"].lower(),
            rule=rule,
            policy_id=policy_id,
            pardon=pardon,
        )


def _whitelist_items(bundle: JsonObject, mapping: JsonObject) -> list[JsonObject]:
    lists = [*(bundle.get("whitelists") or []), *(bundle.get("allowlists") or [])]
    wanted = [*(mapping.get("whitelist_ids") or []), *(mapping.get("allowlist_ids") or [])]
    return [
        {**item, "_list": whitelist["id"], "_name": whitelist.get("name", "")}
        for whitelist in lists
        if whitelist["id"] in wanted
        for item in whitelist.get("items") or []
    ]


def _pardons(item: JsonObject, gate: str, match: Match) -> bool:
    return item["gate"].lower() == gate and fnmatch.fnmatchcase(match.trigger_id, item["trigger_id"])


def _show_pardon(item: JsonObject) -> JsonObject:
    return {"matched_rule_id": item.get("id"), "whitelist_id": item["_list"], "whitelist_name": item["_name"]}
