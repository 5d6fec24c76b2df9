"""Payloads for notifications that a test asks for: what would be told if the thing had happened to a known image just now.

A vuln_update says that all findings are new, a tag_update that the tag names what the registry says now, a policy_eval that the
opposite of the last verdict was reached.
"""

from deploy.dev.anchore import references
from deploy.dev.anchore.catalogue import RegistryError
from deploy.dev.anchore.engine import Engine
from deploy.dev.anchore.notifications import analysis_update, policy_eval, tag_update, vuln_update
from deploy.dev.anchore.records import ImageRecord
from deploy.dev.anchore.wire import JsonObject


def made_up(engine: Engine, kind: str, tag: str, account: str) -> JsonObject:
    """Raises LookupError where the account has no image of that tag."""
    fulltag = references.read_leniently(tag).fulltag
    found = engine.directory.space(account).newest_of(fulltag)
    if not found:
        raise LookupError(f"{account} has no image of {fulltag}")
    record = found[0]
    match kind:
        case "analysis_update":
            return analysis_update(record, fulltag)
        case "vuln_update":
            return vuln_update(record, fulltag, (), engine.findings(record))
        case "policy_eval":
            return _policy_eval(engine, record, fulltag)
        case _:
            return tag_update(record.annotations, _named_now(engine, fulltag), [record.image.digest])


def _named_now(engine: Engine, fulltag: str) -> str:
    try:
        return engine.registry.resolve(references.read(fulltag), engine.registry.unauthorized).digest
    except RegistryError as error:
        raise LookupError(f"{fulltag}: {error.said}") from error


def _policy_eval(engine: Engine, record: ImageRecord, fulltag: str) -> JsonObject:
    history = engine.directory.space(record.account).history.items()
    kept = [value for key, value in history if key[:2] == (record.image.digest, fulltag)]
    last: JsonObject = {"final_action": "go", "status": "pass"}
    if kept:
        last = max(kept, key=lambda evaluation: evaluation.last).result.shown
    is_good = last["final_action"] == "stop"
    changed = {"final_action": "go" if is_good else "stop", "status": "pass" if is_good else "fail"}
    identity = {"image_digest": record.image.digest, "image_id": record.image.image_id, "tag": fulltag}
    return policy_eval(record, fulltag, {**last, **identity, **changed}, {**last, **identity})
