"""`moorgate webhooks`: tells the API server to ask the gateways, shows what it was told, and takes it back.

The chart's Job runs `apply` after each install and upgrade. `remove` is for the day when nothing else helps: it needs the right
to delete webhook configurations, and from then on Pods are admitted unseen, until `apply` (or an upgrade) registers again.
Exit codes: 0 all is as it should be, 1 a step failed, 2 a flag is at fault.
"""

import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import cyclopts

from services.cli import frame, webhooks_cluster, webhooks_file
from services.cli.bootstrap.plan import Plan
from services.cli.frame import ClusterFlags
from services.cli.output import write
from services.cli.webhooks_cluster import PART_OF, LiveConfiguration
from services.cli.webhooks_road import Order, Registrar
from services.cli.webhooks_trust import bundle_of
from shared import lifecycle
from shared.authority import BUNDLE, SECRET
from shared.cluster import Cluster
from shared.errors import BadSetting, Refused
from shared.settings import Environment, parse_duration

_NOT_FOUND = 404

app = cyclopts.App(name="webhooks", help="The registration of the gateways with the API server.")


@app.command
def apply(
    *,
    file: Path,
    owner: str | None = None,
    ca_secret: str = SECRET,
    ca_key: str = BUNDLE,
    path_secret: str | None = None,
    namespace: str = "",
    wait_for: str = "4m",
    dry_run: bool = False,
    where: ClusterFlags = ClusterFlags(),  # noqa: B008  a value that never changes
) -> int:
    """Register the webhook configurations once a gateway answers. Safe to repeat.

    Parameters
    ----------
    file
        A file, or a folder of *.yaml, with ValidatingWebhookConfigurations; their caBundle is filled in here.
    owner
        The ClusterRole that they belong to, and with which they are removed.
    ca_secret
        The Secret with the authorities that the gateways' certificate comes from.
    ca_key
        The key in it.
    path_secret
        The Secret whose `secret` ends the path; without it the path stays as it is.
    namespace
        Where the Secrets are; without it MOORGATE_NAMESPACE.
    wait_for
        How long certificate and gateway are waited for, such as 4m.
    dry_run
        Let the API server check everything, and change nothing.
    """
    try:
        order = Order(
            configurations=webhooks_file.load(file),
            namespace=namespace or Environment(os.environ).text("MOORGATE_NAMESPACE", "moorgate"),
            ca_secret=ca_secret,
            ca_key=ca_key,
            path_secret=path_secret,
            owner=owner,
            wait_for=_seconds(wait_for),
        )
    except BadSetting as error:
        return lifecycle.explain(error)
    plan = Plan(write, is_dry=dry_run)
    return _run(lambda cluster: Registrar(plan, cluster, order, frame.say).register(), where)


@app.command
def status(*, selector: str = PART_OF, where: ClusterFlags = ClusterFlags()) -> int:  # noqa: B008  a value that never changes
    """Show what is registered.

    Parameters
    ----------
    selector
        Labels of the configurations.
    """

    async def show(cluster: Cluster) -> None:
        found = await webhooks_cluster.registered(cluster, selector)
        for each in found:
            write(_described(each, datetime.now(UTC)))
        if not found:
            write("nothing is registered: Pods are admitted unseen")

    return _run(show, where)


@app.command
def remove(
    *names: str,
    selector: str = PART_OF,
    dry_run: bool = False,
    where: ClusterFlags = ClusterFlags(),  # noqa: B008  a value that never changes
) -> int:
    """Break the glass: remove the registration, so that Pods are admitted unseen.

    Parameters
    ----------
    names
        Which configurations; without names all that bear the labels.
    selector
        Labels of the configurations.
    dry_run
        Show what would be removed.
    """

    async def take_away(cluster: Cluster) -> None:
        found = names or [each.metadata.name for each in await webhooks_cluster.registered(cluster, selector)]
        for name in found:
            if dry_run:
                write(f"would remove {name}")
                continue
            try:
                await webhooks_cluster.remove(cluster, name)
            except Refused as error:
                if error.status != _NOT_FOUND:
                    raise
                write(f"not there     {name}")
            else:
                write(f"removed       {name}")
        if found and not dry_run:
            frame.say(
                "Pods are admitted unseen now; `helm upgrade` (or moorgate webhooks apply) registers again"
            )
        if not found:
            write("nothing is registered")

    return _run(take_away, where)


def _described(live: LiveConfiguration, now: datetime) -> str:
    parts = [live.metadata.name]
    for each in live.webhooks:
        trusted = bundle_of(each.client_config.ca_bundle, now)
        until = max((cert.not_valid_after_utc for cert in trusted), default=None)
        trust = (
            f"{len(trusted)} authorities until {until:%Y-%m-%d}" if until else "NO AUTHORITY IT COULD TRUST"
        )
        parts.append(f"  {each.name}: {each.failure_policy}, {trust}")
    return "\n".join(parts)


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError:
        raise BadSetting(f"--wait-for is {text!r}: it must be a duration such as 90s or 4m") from None


def _run(work: Callable[[Cluster], Awaitable[None]], where: ClusterFlags) -> int:
    async def connected() -> int:
        async with where.cluster() as cluster:
            await work(cluster)
        return frame.EXIT_OK

    return frame.run(connected, verbose=where.verbose, failed=frame.EXIT_NO)
