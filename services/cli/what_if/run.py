"""One run: what runs, whose bundle the candidate would take the place of, and what it would come to."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import time

import msgspec

from services.cli.bootstrap.bundle import Bundle
from services.cli.frame import ClusterFlags
from services.cli.what_if.accounts import Account, Accounts, chosen, open_accounts, tenant_records
from services.cli.what_if.held import Say, clear, held
from services.cli.what_if.judging import Compared, Sides, compare_all
from services.cli.what_if.outcome import Release, by_release, seen, standing
from services.cli.what_if.running import scene
from services.cli.what_if.uses import Scene, Subject, Use, uses
from services.scanner.evaluation import OnUnmapped
from shared.errors import BadSetting, MoorgateError
from shared.policies import DEFAULT_TENANT
from shared.settings import Environment
from shared.tenants import Tenant


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line and the settings say."""

    file: Path
    bundle: Bundle
    namespace: str | None
    tenant: str | None
    replaces: str | None
    environment: Environment
    tenants: Mapping[str, Tenant]
    on_unmapped: OnUnmapped
    say: Say
    """Hears what is to be known beside the output."""
    progress: Callable[[int, int], None]
    """Hears how many images of how many are judged."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a run comes to."""

    replaced: Mapping[str, str]
    """By tenant, the bundle whose place the candidate would take."""
    releases: list[Release]


async def find_out(asked: Asked, where: ClusterFlags) -> Found:
    """What would become of each release. Raises `BadSetting`, `Unavailable`, `Refused`, `MoorgateError`."""
    async with where.cluster() as cluster:
        found = await scene(cluster, asked.namespace, asked.environment, asked.say)
    named = {DEFAULT_TENANT, *(each.spec.tenant for each in found.rules.policies)}
    async with AsyncExitStack() as stack:
        accounts = await open_accounts(stack, chosen(asked.tenants, asked.tenant, named))
        for account in accounts.open.values():
            await clear(account, time(), asked.say)
        every = _uses(found, accounts, asked)
        replaced = {name: _replaced(each, asked, every) for name, each in accounts.open.items()}
        troubles = {name: accounts.trouble(name) for name in named - accounts.open.keys()}
        places = [(use, standing(use, replaced, troubles)) for use in every]
        wanted = list(dict.fromkeys(use.subject for use, place in places if place is None))
        compared = await _compared(stack, asked, wanted, accounts, replaced)
    return Found(replaced=replaced, releases=by_release(seen(*place, compared) for place in places))


def _uses(found: Scene, accounts: Accounts, asked: Asked) -> list[Use]:
    records = tenant_records(accounts, found.rules.policies)
    every = uses(found, records.get, datetime.now(UTC))
    return [use for use in every if asked.tenant in (None, use.rule.tenant)]


def _replaced(account: Account, asked: Asked, every: Iterable[Use]) -> str:
    """The bundle whose place the candidate would take. Raises `BadSetting`, `MoorgateError`."""
    candidate, tenant = asked.bundle.id, account.tenant
    if asked.replaces is not None:
        if asked.replaces not in account.bundles:
            raise BadSetting(
                f"--replaces is {asked.replaces!r}: Anchore has no such bundle (tenant {tenant})"
            )
        return asked.replaces
    named = {each.rule.bundle_id for each in every if each.rule.tenant == tenant}
    if candidate in account.bundles and candidate in named:
        return candidate
    if account.in_force is None:
        raise MoorgateError(f"tenant {tenant} has no active bundle to compare with: name one by --replaces")
    return account.in_force


async def _compared(
    stack: AsyncExitStack,
    asked: Asked,
    wanted: list[Subject],
    accounts: Accounts,
    replaced: Mapping[str, str],
) -> dict[Subject, Compared]:
    """Each by both bundles; the candidate is in Anchore for so long, and only where something is to be judged."""
    sides: dict[str, Sides] = {}
    for name in dict.fromkeys(each.tenant for each in wanted):
        account = accounts.open[name]
        candidate = await stack.enter_async_context(held(account, asked.bundle, asked.file, asked.say))
        sides[name] = Sides(account=account, in_force=replaced[name], candidate=candidate)
    return await compare_all(
        ((each, sides[each.tenant]) for each in wanted),
        asked.on_unmapped,
        lambda done: asked.progress(done, len(wanted)),
    )
