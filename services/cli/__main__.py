"""`moorgate`: starts the services and serves the operator.

`moorgate gateway`, `moorgate scanner` and `moorgate audit-writer` start what `python -m services.…` starts.
Each is imported only when it is asked for: a scanner need not hold a Kubernetes client.
"""

import asyncio
import os
import sys
from importlib import import_module
from typing import Literal

import cyclopts
from prometheus_client import CollectorRegistry

from shared import lifecycle, logs, streams
from shared.broker import BrokerSettings, open_broker, shown_url
from shared.errors import BadSetting, MoorgateError
from shared.logs import LogFormat, LogLevel
from shared.metrics import CommonMetrics
from shared.settings import Environment

CONNECT_TIMEOUT = 30.0
"""Seconds a command waits for NATS before it says that it is not there."""

app = cyclopts.App(
    name="moorgate", help="Keeps images that fail an Anchore policy out of a Kubernetes cluster."
)
streams_app = cyclopts.App(name="streams", help="The streams and buckets in NATS.")
app.command(streams_app)
app.command("services.cli.audits:command", name="audits")
app.command("services.cli.bootstrap.command:command", name="bootstrap")
app.command("services.cli.check:command", name="check")
app.command("services.cli.dead:app", name="dead")
app.command("services.cli.doctor.command:command", name="doctor")
app.command("services.cli.explain:command", name="explain")
app.command("services.cli.outbox:app", name="outbox")
app.command("services.cli.manifest.command:app", name="manifest")
app.command("services.cli.secrets:app", name="secrets")
app.command("services.cli.status:command", name="status")
app.command("services.cli.webhooks:app", name="webhooks")
app.command("services.cli.what_if.command:command", name="what-if")
app.command("services.cli.whitelist:app", name="whitelist")


def main() -> None:
    """Run the command on the command line; exits with its code."""
    try:
        sys.exit(app(exit_on_error=False, print_error=False) or lifecycle.EXIT_OK)
    except (
        cyclopts.CycloptsError
    ) as error:  # 1 would be an answer: `moorgate check` says by it that an image fails
        sys.exit(lifecycle.explain(BadSetting(f"{error} See: moorgate --help")))


@app.command
def gateway() -> int:
    """Serve admissions (settings: MOORGATE_… in the environment)."""
    return _service("gateway")


@app.command
def scanner() -> int:
    """Scan what gateways and audit-writers ask for."""
    return _service("scanner")


@app.command(name="audit-writer")
def audit_writer() -> int:
    """Keep the Audits."""
    return _service("audit_writer")


@app.command
def completion(shell: Literal["bash", "zsh", "fish"]) -> int:
    """Print what a shell needs to complete commands and flags: source <(moorgate completion bash)."""
    print(app.generate_completion(prog_name="moorgate", shell=shell))  # noqa: T201  the command's output
    return lifecycle.EXIT_OK


@streams_app.command(name="apply")
def streams_apply() -> int:
    """Create or update streams, buckets and durables. Safe to repeat."""
    try:
        environment = Environment(os.environ)
        settings = BrokerSettings.load(environment)
        replicas = streams.load_replicas(environment)
    except BadSetting as error:
        return lifecycle.explain(error)
    logs.set_up(LogLevel.WARNING, LogFormat.CONSOLE)
    try:
        names = asyncio.run(_apply(settings, replicas))
    except TimeoutError:
        return _failed(
            f"NATS does not answer at {shown_url(settings.url)}: start it, or correct MOORGATE_NATS_URL"
        )
    except MoorgateError as error:
        return _failed(str(error))
    for name in names:
        print(name)  # noqa: T201  the command's output
    return lifecycle.EXIT_OK


async def _apply(settings: BrokerSettings, replicas: int) -> list[str]:
    async with open_broker(settings, "moorgate/cli", CommonMetrics(CollectorRegistry())) as broker:
        await asyncio.wait_for(broker.connected(), CONNECT_TIMEOUT)
        return await streams.apply(broker, replicas)


def _service(name: str) -> int:
    return int(import_module(f"services.{name}.__main__").main())


def _failed(message: str) -> int:
    print(f"moorgate: {message}", file=sys.stderr)  # noqa: T201  the one line that helps
    return lifecycle.EXIT_FAILED


if __name__ == "__main__":
    main()
