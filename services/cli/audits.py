"""`moorgate audits`: what was let in, refused, or has turned bad, of one namespace or of all; live with `--watch`.

The API server selects by the labels that every Audit bears, so that ten thousand others cost nothing.
Needs the right to `list` (and `watch`) audits.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Literal

import cyclopts

from services.cli import frame
from services.cli.audits_feed import Change, Selection, follow, read
from services.cli.frame import ClusterFlags, Flag, Output, Text
from services.cli.output import age, emit, emit_one, printable, table
from shared import crds
from shared.crds import Audit

COLUMNS = ("namespace", "name", "release", "action", "images", "result", "state", "seen")
_WATCH_WIDTHS = (8, 20, 40, 20, 8, 40, 34, 10)

State = Literal["admitted", "rejected", "observed", "degraded", "unverified"]
Action = Literal["allowed", "reject"]


def command(
    *,
    namespace: Annotated[str | None, cyclopts.Parameter(name=["--namespace", "-n"])] = None,
    all_namespaces: Annotated[Flag, cyclopts.Parameter(name=["--all-namespaces", "-A"])] = False,
    state: State | None = None,
    action: Action | None = None,
    release: str | None = None,
    watch: Annotated[Flag, cyclopts.Parameter(name=["--watch", "-w"])] = False,
    output: Text = "text",
    where: ClusterFlags = ClusterFlags(),  # noqa: B008  a value that never changes
) -> int:
    """Show Audits: what was let in, refused, or has turned bad.

    Parameters
    ----------
    namespace
        Of this namespace; without it of the one of your kubeconfig's context.
    all_namespaces
        Of all namespaces.
    state
        Only those in this state.
    action
        Only those whose workload got this answer.
    release
        Only those of this release.
    watch
        Go on showing what changes, until Ctrl-C.
    """

    async def show() -> int:
        within = "" if all_namespaces else where.namespace(namespace)
        selection = Selection(namespace=within, labels=_labels(state, action, release))
        async with where.cluster() as cluster:
            found, version = await read(cluster, selection)
            found.sort(key=lambda audit: (audit.metadata.namespace, audit.metadata.name))
            if watch:
                await _watch(found, follow(cluster, selection, found, version, frame.say), output)
            else:
                nothing = (
                    f"no Audits{f' in {within}' if within else ''}{' like that' if selection.labels else ''}"
                )
                emit(found, output, table(COLUMNS, _rows(found), nothing))
        return frame.EXIT_OK

    if namespace and all_namespaces:
        frame.say("give --namespace or --all-namespaces, not both")
        return frame.EXIT_BAD_FLAG
    return frame.run(show, verbose=where.verbose)


async def _watch(found: list[Audit], changes: AsyncIterator[Change], output: Output) -> None:
    if output == "text":
        emit_one(None, output, _line(("change", *COLUMNS)).upper())
    for audit in found:
        _emit_change(Change("there", audit), output)
    async for change in changes:
        _emit_change(change, output)
        await asyncio.sleep(0)


def _emit_change(change: Change, output: Output) -> None:
    [row] = _rows([change.audit])
    shown = {"change": change.what, "audit": change.audit}
    emit_one(shown, output, _line((change.what, *row)))


def _line(cells: tuple[str, ...]) -> str:
    """Columns of a fixed width: what comes later is not known yet."""
    shown = (printable(cell) for cell in cells)
    return "  ".join(cell.ljust(width) for cell, width in zip(shown, _WATCH_WIDTHS, strict=False)).rstrip()


def _rows(audits: list[Audit]) -> list[tuple[str, ...]]:
    now = datetime.now(UTC)
    return [
        (
            audit.metadata.namespace,
            audit.metadata.name,
            audit.spec.release_name,
            audit.spec.action,
            audit.status.summary.images,
            audit.status.summary.result,
            str(audit.status.state),
            age(audit.status.last_seen, now),
        )
        for audit in audits
    ]


def _labels(state: str | None, action: str | None, release: str | None) -> str:
    wanted = {
        crds.STATE_LABEL: state,
        crds.ACTION_LABEL: action,
        crds.RELEASE_LABEL: crds.label_value(release) if release else None,
    }
    return ",".join(f"{name}={value}" for name, value in wanted.items() if value is not None)
