"""Everything that is fuzzed, by name: a function of bytes that must neither raise nor take long."""

from collections.abc import Callable

from tests.fuzz import answers, doors, files, texts

ALL = "all"

TARGETS: dict[str, Callable[[bytes], None]] = {
    "admission": doors.admission,
    "message": doors.message,
    "bucket": doors.bucket,
    "decided": doors.decided,
    "flip": doors.flip,
    "question": doors.question,
    "notice": doors.notice,
    "anchore_v1": answers.v1,
    "anchore_v2": answers.v2,
    "outbox": files.outbox,
    "image": texts.image,
    "pattern": texts.pattern,
    "glob": texts.glob,
    "settings": texts.settings,
    "policies": texts.policies,
    "tenants_file": texts.tenants_file,
    "bootstrap_file": texts.bootstrap_file,
    "notify": texts.notify,
    "webhooks": texts.webhooks,
}


def any_of_them(data: bytes) -> None:
    """The first byte chooses the target: one process for all, where starting one for each would take longest."""
    if data:
        list(TARGETS.values())[data[0] % len(TARGETS)](data[1:])


def close() -> None:
    """Loops and folders go."""
    doors.close()
    answers.close()
    texts.close()
