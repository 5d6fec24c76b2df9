"""What `moorgate manifest check` prints: a line for each workload, what stands against it, and each image by its rule.

The pure part: values in, text out.
"""

from typing import Any

from services.cli.manifest.judging import Fate, Told
from services.cli.output import printable
from services.gateway.decision import Judged
from shared.contracts import Mode, Outcome

_WORDS = {
    Fate.ADMITTED: "ADMITTED",
    Fate.WARNED: "WARNED",
    Fate.REFUSED: "REFUSED",
    Fate.UNKNOWN: "NOT KNOWN",
}
_LINE = 400


def report(told: list[Told]) -> str:
    """Everything, and a last line that counts."""
    lines = [line for each in told for line in _lines(each)]
    counts = [f"{sum(each.fate is fate for each in told)} {_WORDS[fate].lower()}" for fate in Fate]
    return "\n".join([*lines, ", ".join(counts)])


def shown(told: Told) -> dict[str, Any]:
    """The same for programs."""
    workload = told.manifest.workload
    return {
        "where": told.manifest.where,
        "kind": workload.kind,
        "namespace": workload.namespace,
        "name": workload.name,
        "fate": told.fate.value,
        "message": told.message,
        "images": [_image(each) for each in told.judged],
    }


def _image(judged: Judged) -> dict[str, Any]:
    evidence, rule = judged.evidence, judged.rule
    return {
        "container": judged.image.container,
        "image": judged.image.image,
        "outcome": evidence.outcome.value,
        "mode": rule.mode.value,
        "policy": rule.policy,
        "whitelistItem": judged.whitelist_item,
        "digest": evidence.verdict.digest if evidence.verdict else evidence.digest,
        "error": evidence.error.value if evidence.error else None,
    }


def _lines(told: Told) -> list[str]:
    workload = told.manifest.workload
    name = printable(f"{workload.namespace} {workload.kind}/{workload.name}", _LINE)
    lines = [f"{_WORDS[told.fate]:<9}  {name}  ({printable(told.manifest.where, _LINE)})"]
    if told.message:
        lines.append(f"    {printable(told.message, _LINE)}")
    return [*lines, *(f"    {printable(_said(each), _LINE)}" for each in told.judged)]


def _said(judged: Judged) -> str:
    by = f"ImagePolicy {judged.rule.policy}" if judged.rule.policy else "the defaults"
    if judged.whitelist_item:
        why = f"WhiteListItem {judged.whitelist_item}"
    elif judged.rule.mode is Mode.OFF:
        why = f"not looked at by {by} (mode off)"
    else:
        outcome = (
            "not asked" if judged.evidence.outcome is Outcome.NOT_ASKED else judged.evidence.outcome.value
        )
        why = f"{outcome}, by {by} (mode {judged.rule.mode})"
    return f"{judged.image.kind} {judged.image.container}: {judged.image.image}  {why}"
