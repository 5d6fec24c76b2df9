"""`moorgate whitelist`: lets a release through whatever the scan says, shows whom that holds for, takes it back.

Who adds an item is who the API server says it is (SelfSubjectReview), never what somebody types; why is required. Needs
`create`, `list`, `delete` of whitelistitems, which are cluster-scoped: whoever may create one may open every namespace.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import cyclopts
import msgspec

from services.cli import frame
from services.cli.frame import ClusterFlags, Output, Text
from services.cli.output import emit, span, table
from services.cli.whitelist_cluster import create, items, remove_item, username
from shared.cluster import Cluster
from shared.crds import WhiteListItem, WhiteListSpec
from shared.errors import BadSetting, Conflict, Refused
from shared.objects import ObjectMeta
from shared.settings import parse_duration

COLUMNS = ("release", "namespaces", "images", "expires", "creator", "reason")
_INVALID, _NOT_FOUND = 422, 404
_FOREVER = datetime(9999, 1, 1, tzinfo=UTC)

Many = Annotated[list[str] | None, cyclopts.Parameter(negative=())]

app = cyclopts.App(name="whitelist", help="Releases that are let through whatever the scan says.")


class _Shown(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An item as programs are shown it."""

    name: str
    in_force: bool
    """False: it has expired."""
    spec: WhiteListSpec


@app.command
def add(
    release: str,
    *,
    reason: str,
    for_: Annotated[str | None, cyclopts.Parameter(name="--for")] = None,
    namespace: Annotated[Many, cyclopts.Parameter(name=["--namespace", "-n"])] = None,
    image: Many = None,
    regexp: str = "",
    output: Text = "text",
    where: ClusterFlags = ClusterFlags(),  # noqa: B008  a value that never changes
) -> int:
    """Let a release through.

    Parameters
    ----------
    release
        The release; with --regexp a name for the item.
    reason
        Why it may run whatever the scan says; others will read it.
    for_
        How long, such as 24h; without it until the item is removed.
    namespace
        Only there; may be given again. Without it everywhere.
    image
        Only these images of the release, as a glob such as docker.io/library/*; may be given again.
    regexp
        Every release whose whole name matches this expression (RE2).
    """

    async def work(cluster: Cluster) -> int:
        now = datetime.now(UTC)
        spec = WhiteListSpec(
            creator=await username(cluster),
            reason=reason.strip(),
            regexp=regexp,
            expires_at=_expiry(for_, now),
            namespaces=tuple(namespace or ()),
            images=tuple(image or ()),
        )
        try:
            await create(cluster, WhiteListItem(metadata=ObjectMeta(name=release), spec=spec))
        except Conflict:
            frame.say(f"there is an item {release} already: look with moorgate whitelist list, or remove it")
            return frame.EXIT_NO
        except Refused as error:
            if error.status != _INVALID:
                raise
            raise BadSetting(f"not added: {str(error).partition('HTTP 422 ')[2]}") from error
        told = f"{release} is let through {_how_far(spec)}, {_how_long(spec, now)}, by {spec.creator}"
        emit(_Shown(name=release, in_force=True, spec=spec), output, told)
        if not spec.namespaces:
            frame.say("it counts in every namespace, for whoever names a release so; --namespace narrows it")
        return frame.EXIT_OK

    if not reason.strip():
        frame.say("--reason is empty: say why this release may run whatever the scan says")
        return frame.EXIT_BAD_FLAG
    return _run(work, where)


@app.command(name="list")
def list_items(*, output: Text = "text", where: ClusterFlags = ClusterFlags()) -> int:  # noqa: B008  a value that never changes
    """Show the items, those that expire first at the top."""

    async def work(cluster: Cluster) -> int:
        now = datetime.now(UTC)
        found = sorted(
            await items(cluster), key=lambda item: (item.spec.expires_at or _FOREVER, item.metadata.name)
        )
        _show(found, now, output)
        return frame.EXIT_OK

    return _run(work, where)


@app.command
def remove(
    *names: str,
    output: Text = "text",
    where: ClusterFlags = ClusterFlags(),  # noqa: B008  a value that never changes
) -> int:
    """Take items away: what runs goes on, its next Pods are judged like any other.

    Parameters
    ----------
    names
        As `moorgate whitelist list` shows them in its first column.
    """

    async def work(cluster: Cluster) -> int:
        code, removed = frame.EXIT_OK, []
        for name in dict.fromkeys(names):
            try:
                await remove_item(cluster, name)
            except Refused as error:
                if error.status != _NOT_FOUND:
                    raise
                frame.say(f"there is no item {name}: see moorgate whitelist list")
                code = frame.EXIT_NO
            else:
                removed.append(name)
        if removed or output != "text":
            emit({"removed": removed}, output, "\n".join(f"removed {name}" for name in removed))
        return code

    if not names:
        frame.say("say which items: their names, as moorgate whitelist list shows them")
        return frame.EXIT_BAD_FLAG
    return _run(work, where)


def _run(work: Callable[[Cluster], Awaitable[int]], where: ClusterFlags) -> int:
    async def connected() -> int:
        async with where.cluster() as cluster:
            return await work(cluster)

    return frame.run(connected, verbose=where.verbose)


def _show(found: list[WhiteListItem], now: datetime, output: Output) -> None:
    shown = [
        _Shown(name=item.metadata.name, in_force=_is_in_force(item.spec, now), spec=item.spec)
        for item in found
    ]
    rows = [
        (
            f"{item.metadata.name} (~ {item.spec.regexp})" if item.spec.regexp else item.metadata.name,
            ",".join(item.spec.namespaces) or "everywhere",
            ",".join(item.spec.images) or "all",
            _remaining(item.spec, now),
            item.spec.creator,
            item.spec.reason,
        )
        for item in found
    ]
    emit(shown, output, table(COLUMNS, rows, "nothing is let through: there are no items"))


def _expiry(text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    fault = BadSetting(f"--for is {text!r}: it must be a duration of at least 1s, such as 24h")
    try:
        seconds = parse_duration(text)
        until = (now + timedelta(seconds=seconds)).replace(microsecond=0)
    except (ValueError, OverflowError):
        raise fault from None
    if seconds < 1:
        raise fault
    return until


def _is_in_force(spec: WhiteListSpec, now: datetime) -> bool:
    return spec.expires_at is None or spec.expires_at > now


def _remaining(spec: WhiteListSpec, now: datetime) -> str:
    if spec.expires_at is None:
        return "never"
    left = (spec.expires_at - now).total_seconds()
    return f"in {span(left)}" if left > 0 else f"EXPIRED {span(-left)} ago"


def _how_far(spec: WhiteListSpec) -> str:
    within = f"in {', '.join(spec.namespaces)}" if spec.namespaces else "in every namespace"
    return f"{within}, with {', '.join(spec.images)}" if spec.images else within


def _how_long(spec: WhiteListSpec, now: datetime) -> str:
    if spec.expires_at is None:
        return "until the item is removed"
    return (
        f"until {spec.expires_at:%Y-%m-%d %H:%M:%S} UTC ({span((spec.expires_at - now).total_seconds() + 1)})"
    )
