"""`moorgate doctor`: looks for the misconfigurations that are usual, and says how to mend each; nothing is changed.

`status` tells how things are now; this tells what will go wrong. Exit codes: 0 nothing was found, 1 something was, 2 a flag or a setting is
at fault, 3 nothing was found, and something could not be looked at.
"""

import asyncio
import os
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Annotated

import cyclopts

from services.cli import frame
from services.cli.doctor.cluster_checks import ClusterChecks
from services.cli.doctor.findings import Check, Finding, Severity, checked, exit_code, unseen
from services.cli.doctor.nats_checks import NatsChecks
from services.cli.frame import ClusterFlags, NatsFlags, Text
from services.cli.output import emit
from shared.contracts import TenantRecord
from shared.errors import BadSetting, MoorgateError
from shared.settings import Environment

_MARKS = {Severity.ERROR: "WRONG", Severity.WARNING: "RISKY", Severity.UNKNOWN: "?"}
_ORDER = list(Severity)


def command(
    *,
    namespace: Annotated[str | None, cyclopts.Parameter(name=["--namespace", "-n"])] = None,
    output: Text = "text",
    cluster: ClusterFlags = ClusterFlags(),  # noqa: B008  a value that never changes
    nats: NatsFlags = NatsFlags(),  # noqa: B008  a value that never changes
) -> int:
    """Find what is misconfigured, and say how to mend it.

    Parameters
    ----------
    namespace
        Where Moorgate runs; without it MOORGATE_NAMESPACE.
    """

    async def work() -> int:
        environment = Environment(os.environ)
        within = (
            cluster.namespace(namespace) if namespace else environment.text("MOORGATE_NAMESPACE", "moorgate")
        )
        nats.settings()  # what is wrong with a flag is said before anything is looked at
        findings, tenants = await _of_nats(nats, cluster.context, within)
        if environment.has_cluster:
            findings += await _of_cluster(cluster, environment, within, tenants)
        findings.sort(key=lambda each: _ORDER.index(each.severity))
        emit(findings, output, _text(findings))
        return exit_code(findings)

    return frame.run(work, verbose=cluster.verbose)


async def _of_nats(
    flags: NatsFlags, context: str | None, namespace: str
) -> tuple[list[Finding], Mapping[str, TenantRecord] | None]:
    """What was found, and what tenants there are: None where nobody could be asked."""
    async with AsyncExitStack() as stack:
        try:
            checks = NatsChecks(await stack.enter_async_context(flags.broker(context, namespace)))
        except MoorgateError as error:
            return [unseen("nats", frame.explain(error))], None
        found = await _all(checks.all)
        try:
            return found, await checks.tenants()
        except MoorgateError as error:
            return [*found, unseen("tenants", frame.explain(error))], None


async def _of_cluster(
    flags: ClusterFlags, environment: Environment, namespace: str, tenants: Mapping[str, TenantRecord] | None
) -> list[Finding]:
    async with AsyncExitStack() as stack:
        try:
            cluster = await stack.enter_async_context(flags.cluster())
        except BadSetting as error:
            return [unseen("cluster", str(error))]
        return await _all(ClusterChecks(cluster, environment, namespace, tenants).all)


async def _all(checks: Iterable[tuple[str, Check]]) -> list[Finding]:
    found = await asyncio.gather(*(checked(name, check) for name, check in checks))
    return [finding for findings in found for finding in findings]


def _text(findings: list[Finding]) -> str:
    """Worst first; each with what mends it."""
    lines = [
        f"{_MARKS[each.severity]:6} {frame.printable(each.what)}\n       {frame.printable(each.mend)}"
        for each in findings
    ]
    return "\n".join(lines) if lines else "nothing is misconfigured, as far as this looks"
