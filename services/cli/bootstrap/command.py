"""The command: settings, NATS, the road, and one line for whatever ends it.

Lines of steps go to stdout as they are done, what is waited for to stderr. Exit codes: 0 all is as it should be (with
`--dry-run`: would be), 1 a step failed, 2 a setting is at fault.
"""

import asyncio
import os
import sys
from collections.abc import Mapping

import msgspec
from prometheus_client import CollectorRegistry

from services.cli.bootstrap import settings as bootstrap_settings
from services.cli.bootstrap.plan import Failed, Plan
from services.cli.bootstrap.road import bootstrap
from services.cli.frame import Text
from services.cli.output import emit_one
from shared import lifecycle, logs, streams
from shared.broker import BrokerSettings, open_broker
from shared.errors import BadSetting, MoorgateError
from shared.logs import LogFormat, LogLevel
from shared.metrics import CommonMetrics
from shared.settings import Environment


class Settings(msgspec.Struct, frozen=True):
    """What the environment says, checked before anything is opened."""

    file: bootstrap_settings.BootstrapSettings
    broker: BrokerSettings
    replicas: int

    @classmethod
    def load(cls, variables: Mapping[str, str]) -> "Settings":
        """Raises `BadSetting`."""
        environment = Environment(variables)
        return cls(
            bootstrap_settings.load(environment),
            BrokerSettings.load(environment),
            streams.load_replicas(environment),
        )


def command(
    *,
    dry_run: bool = False,
    output: Text = "text",
) -> int:
    """Make what Moorgate needs: streams, Anchore account and user, bundles, registries, notifications. Safe to repeat.

    Parameters
    ----------
    dry_run
        Show what would be done, and change nothing.
    output
        One line for each step, or one object of JSON or YAML at the end.
    """
    try:
        settings = Settings.load(os.environ)
    except BadSetting as error:
        return lifecycle.explain(error)
    logs.set_up(LogLevel.WARNING, LogFormat.CONSOLE)
    plan = Plan(_print if output == "text" else _keep_silent, is_dry=dry_run)
    fault, code = asyncio.run(_run(plan, settings))
    if output != "text":
        emit_one({"dryRun": dry_run, "steps": plan.steps, "error": fault}, output, "")
    if fault:
        _warn(fault)
    return code


async def _run(plan: Plan, settings: Settings) -> tuple[str | None, int]:
    """The line to show where it failed, and the exit code."""
    try:
        async with open_broker(settings.broker, "moorgate/cli", CommonMetrics(CollectorRegistry())) as broker:
            try:
                await asyncio.wait_for(broker.connected(), settings.file.wait_for)
            except TimeoutError:
                raise Failed(
                    f"NATS does not answer at {settings.broker.url}: start it, or correct MOORGATE_NATS_URL"
                ) from None
            await bootstrap(plan, settings.file, broker, settings.replicas, _warn)
    except BadSetting as error:
        return _line(error), lifecycle.EXIT_BAD_SETTING
    except (MoorgateError, OSError) as error:
        return _line(error), lifecycle.EXIT_FAILED
    return None, lifecycle.EXIT_OK


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201  the command's output


def _keep_silent(_line: str) -> None:
    """JSON comes at the end."""


def _warn(line: str) -> None:
    print(f"moorgate: {line}", file=sys.stderr, flush=True)  # noqa: T201  what the person should know
