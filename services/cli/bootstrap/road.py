"""The way of `moorgate bootstrap`, step by step.

Streams first, since everything else needs them and they need nobody; then Anchore: who we are, what judges, how it reaches
the registries, and whom it tells. Everything of the account is done as Moorgate's own user, which proves that its credentials
do what they must.
"""

import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec

from services.cli.bootstrap.anchore import Anchore, Identity, open_anchore
from services.cli.bootstrap.arrival import await_anchore
from services.cli.bootstrap.credentials import own_credentials
from services.cli.bootstrap.notifications import subscribe
from services.cli.bootstrap.plan import Plan
from services.cli.bootstrap.policies import set_up_bundles
from services.cli.bootstrap.registries import register
from services.cli.bootstrap.settings import BootstrapSettings
from services.cli.bootstrap.streams import set_up_streams
from shared.anchore import AnchoreApi
from shared.broker import Broker
from shared.cluster import Cluster, open_cluster


async def bootstrap(
    plan: Plan, settings: BootstrapSettings, broker: Broker, replicas: int, say: Callable[[str], None]
) -> None:
    """All steps. `say` hears what is waited for. Raises `MoorgateError`s, whose text is the line to show."""
    await set_up_streams(plan, broker, replicas)
    if settings.anchore is None:
        return
    api = await await_anchore(settings.anchore, settings.wait_for, say)
    async with contextlib.AsyncExitStack() as stack:
        needs_cluster = settings.secret is not None or settings.registries
        cluster = await stack.enter_async_context(open_cluster()) if needs_cluster else None
        own = await stack.enter_async_context(_own_account(plan, settings, api, cluster))
        await set_up_bundles(plan, own, settings.bundles, settings.active)
        if cluster is not None and settings.registries:
            await register(plan, own, cluster, settings.registries)
        if settings.receiver is not None:
            await subscribe(plan, own, api, settings.receiver)


@contextlib.asynccontextmanager
async def _own_account(
    plan: Plan, settings: BootstrapSettings, api: AnchoreApi, cluster: Cluster | None
) -> AsyncIterator[Anchore | None]:
    """Anchore as Moorgate's user; None in a dry run before the account is there."""
    async with open_anchore(settings.known_anchore, api) as admin:
        if settings.secret is None or cluster is None:
            yield admin
            return
        own = await own_credentials(plan, admin, cluster, settings.secret, settings)
        if own is None:  # a dry run: look with the administrator's eyes
            is_there = await admin.get(f"/accounts/{settings.account.name}", Identity) is not None
            own = msgspec.structs.replace(settings.known_anchore, account=settings.account.name)
            if not is_there:
                yield None
                return
    async with open_anchore(own, api) as anchore:
        yield anchore
