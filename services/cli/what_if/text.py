"""What `moorgate what-if` prints: releases in a table, then what would newly stop them, then a line that counts. Pure."""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from services.cli.check_text import finding_lines
from services.cli.output import printable, table
from services.cli.what_if.outcome import Fate, Release, Seen
from services.scanner.evaluation import Judged

NOTHING = "nothing runs there: nothing would break"
_LINE = 400
_TOLD = (Fate.BREAKS, Fate.LET_IN, Fate.UNKNOWN)


def report(head: list[str], releases: list[Release]) -> str:
    """Everything."""
    if not releases:
        return "\n".join([*head, NOTHING])
    columns = [fate for fate in Fate if fate is Fate.BREAKS or any(each.count(fate) for each in releases)]
    names = ("release", "namespace", "comes to", *(fate.value for fate in columns))
    rows = [
        (each.name, each.namespace, each.fate.value, *(str(each.count(fate) or "-") for fate in columns))
        for each in releases
    ]
    details = [line for each in releases for line in _lines(each)]
    return "\n".join([*head, "", table(names, rows, ""), *details, "", summary(releases)])


def summary(releases: list[Release]) -> str:
    """How many releases of each kind."""
    counts = {fate: sum(each.fate is fate for each in releases) for fate in Fate}
    told = [f"{count} {fate.value}" for fate, count in counts.items() if count or fate is Fate.BREAKS]
    return f"of {len(releases)} release{'' if len(releases) == 1 else 's'} {', '.join(told)}"


def shown(release: Release) -> dict[str, Any]:
    """The same for programs."""
    return {
        "release": release.name,
        "namespace": release.namespace,
        "would": _word(release.fate),
        "counts": {_word(fate): release.count(fate) for fate in Fate},
        "images": [_image(each) for each in release.images],
    }


def _word(fate: Fate) -> str:
    """As programs compare it: `would break` may change, `breaks` does not."""
    return fate.name.lower()


def _image(seen: Seen) -> dict[str, Any]:
    use = seen.use
    return {
        "workload": use.workload,
        "container": use.container,
        "containerKind": use.container_kind,
        "image": use.image,
        "digest": use.digest,
        "tenant": use.rule.tenant,
        "bundle": use.bundle,
        "policy": use.rule.policy,
        "mode": use.rule.mode,
        "would": _word(seen.fate),
        "why": seen.why,
        "letInBy": use.let_in_by,
        "before": _result(seen.before),
        "after": _result(seen.after),
        "newly": list(seen.newly),
    }


def _result(judged: Judged | None) -> str | None:
    return judged.result.value if judged else None


def _lines(release: Release) -> Iterable[str]:
    told = [each for each in release.images if each.fate in _TOLD]
    if told:
        yield ""
        yield printable(f"{release.name} in {release.namespace}", _LINE)
    ordered = sorted(told, key=lambda each: (list(Fate).index(each.fate), *_same(each)))
    for _, alike in groupby(ordered, key=_same):
        yield from _image_lines(list(alike))


def _same(seen: Seen) -> tuple[str, ...]:
    """Two ReplicaSets of one release mostly run the same: told once."""
    use = seen.use
    return use.container, use.image, use.digest, seen.fate.value, seen.why


def _image_lines(alike: list[Seen]) -> Iterable[str]:
    use, seen = alike[0].use, alike[0]
    where = ", ".join(dict.fromkeys(each.use.workload for each in alike))
    digest = f" ({use.digest[:19]}…)" if use.digest else ""
    why = f": {seen.why}" if seen.why else ""
    yield f"  {printable(f'{use.container_kind} {use.container} of {where}', _LINE)}"
    yield f"    {printable(use.image, _LINE)}{digest} {seen.fate.value}{printable(why, _LINE)}"
    yield from (f"      {line}" for line in finding_lines(seen.newly))
