"""What the operator's commands share: where the cluster and NATS are, and one line for each trouble.

Flags win over the settings of the environment. A command gives one of four exit codes:

    0  all is as asked
    1  the answer is no: an image fails, a part of Moorgate is unwell, a thing could not be written
    2  a flag or a setting is at fault
    3  nothing could be found out: cluster or NATS do not answer, rights are missing, there is no verdict (yet)

Logs of the connections are thrown away, unless `--verbose` asks for them: the line says what they would.
"""

import asyncio
import contextlib
import io
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import cyclopts
import msgspec
from prometheus_client import CollectorRegistry

from services.cli import port_forward
from shared import lifecycle, logs
from shared.broker import Broker, BrokerSettings, open_broker, shown_url
from shared.cluster import Cluster, current_namespace, open_cluster
from shared.errors import BadSetting, MoorgateError, Refused, Unavailable
from shared.logs import LogFormat, LogLevel
from shared.metrics import CommonMetrics
from shared.settings import Environment

EXIT_OK, EXIT_NO, EXIT_BAD_FLAG, EXIT_UNKNOWN = lifecycle.EXIT_OK, 1, lifecycle.EXIT_BAD_SETTING, 3

CONNECT_TIMEOUT = 10.0
"""Seconds a command waits for NATS before it says that it is not there."""

REFUSED_TIMEOUT = 2.0
"""Seconds after which an address where nobody listens counts as wrong: a port-forward may be just starting."""

_POLL = 0.1

_INTERRUPTED = 130
"""What a shell expects after Ctrl-C."""

_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)

_FORBIDDEN, _NOT_FOUND = 403, 404

Output = Literal["text", "json", "yaml"]
Text = Annotated[Output, cyclopts.Parameter(name=["--output", "-o"], help="How to show it.")]
Flag = Annotated[bool, cyclopts.Parameter(negative=())]


def _help(text: str) -> cyclopts.Parameter:
    return cyclopts.Parameter(help=text)


@cyclopts.Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ClusterFlags:
    """Where the cluster is."""

    context: Annotated[str | None, _help("Context of the kubeconfig; without it the current one.")] = None
    verbose: Annotated[Flag, _help("Show the logs of connections too.")] = False

    @contextlib.asynccontextmanager
    async def cluster(self) -> AsyncIterator[Cluster]:
        """The API server. Raises `BadSetting`."""
        if Environment(os.environ).optional("MOORGATE_CLUSTER") == "none":
            raise BadSetting("MOORGATE_CLUSTER is none, and this command asks a cluster: unset it")
        async with open_cluster(self.context) as cluster:
            yield cluster

    def namespace(self, given: str | None) -> str:
        """The namespace that was given, else the context's own. Raises `BadSetting`."""
        if given is not None and not _NAMESPACE.fullmatch(given):
            raise BadSetting(
                f"--namespace is {given!r}: a namespace has 1 to 63 characters of a-z, 0-9 and -"
            )
        return given or current_namespace(self.context)


@cyclopts.Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class NatsFlags:
    """Where NATS is."""

    nats_url: Annotated[str | None, _help("Instead of MOORGATE_NATS_URL.")] = None
    nats_user: Annotated[str | None, _help("Instead of MOORGATE_NATS_USER.")] = None
    nats_password_file: Annotated[str | None, _help("Instead of MOORGATE_NATS_PASSWORD_FILE.")] = None
    nats_ca_file: Annotated[str | None, _help("Instead of MOORGATE_NATS_CA_FILE.")] = None

    def settings(self) -> BrokerSettings:
        """Flags over environment. Raises `BadSetting` that names what was used."""
        given = {f"MOORGATE_{name.upper()}": value for name, value in vars(self).items() if value is not None}
        variables = {**os.environ, **given}
        if self.nats_password_file is not None:
            variables.pop("MOORGATE_NATS_PASSWORD", None)
        try:
            return BrokerSettings.load(Environment(variables))
        except BadSetting as error:
            text = str(error)
            for name in given:
                text = text.replace(name, f"--{name.removeprefix('MOORGATE_').lower().replace('_', '-')}")
            raise BadSetting(text) from error

    @contextlib.asynccontextmanager
    async def broker(self, context: str | None = None, namespace: str | None = None) -> AsyncIterator[Broker]:
        """A connection that stands. Raises `BadSetting`, `Unavailable`.

        Where nobody says where NATS is, and the chart's is in the cluster, its port is forwarded meanwhile.
        `context`: of the kubeconfig; `namespace`: where Moorgate runs.
        """
        async with contextlib.AsyncExitStack() as stack:
            settings = self.settings()
            if self.nats_url is None and not os.environ.get("MOORGATE_NATS_URL"):
                road = port_forward.forwarded(settings, context, namespace, say)
                settings = await stack.enter_async_context(road)
            broker = await stack.enter_async_context(
                open_broker(settings, "moorgate/cli", CommonMetrics(CollectorRegistry()))
            )
            await _connected(broker, settings.url)
            try:
                yield broker
            except Unavailable as error:
                raise _why_unanswered(broker, error) from error


def run(work: Callable[[], Awaitable[int]], *, verbose: bool = False, failed: int = EXIT_UNKNOWN) -> int:
    """Do the work; gives the exit code, after one line on stderr for whatever ended it early.

    `failed`: the code for that; commands that change things say by 1 that a step failed.
    """
    stream = sys.stderr if verbose else io.StringIO()
    logs.set_up(LogLevel.DEBUG if verbose else LogLevel.ERROR, LogFormat.CONSOLE, stream)

    async def main() -> int:
        return await work()

    try:
        return asyncio.run(main())
    except BadSetting as error:
        return lifecycle.explain(error)
    except BrokenPipeError:  # nobody reads on what has no end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except (MoorgateError, OSError, msgspec.MsgspecError) as error:
        say(explain(error))
        return failed
    except KeyboardInterrupt:
        return _INTERRUPTED


def explain(error: Exception) -> str:
    """What happened, and what to do about it, in one line."""
    text = str(error)
    if isinstance(error, msgspec.MsgspecError):
        return f"an answer could not be understood: {text}; is this another version of Moorgate than the cluster's?"
    said = text.partition("HTTP 4")[2][3:] or text
    if isinstance(error, Refused) and error.status == _FORBIDDEN:
        return (
            f"you have no right to do that: {said}; see docs/command-line.md for the rights that are needed"
        )
    if isinstance(error, Refused) and error.status == _NOT_FOUND and "the server could not find" in said:
        return "the cluster has no such resources: Moorgate's CustomResourceDefinitions are not installed"
    if isinstance(error, Unavailable) and error.neighbour == "kubernetes":
        if "HTTP 401" in text:
            return "the cluster does not accept your credentials: renew those of your kubeconfig"
        return f"the cluster does not answer: {text.partition(': ')[2]}; check KUBECONFIG or --context"
    return text


def say(line: str) -> None:
    """What the person should know, on stderr, as one line."""
    print(f"moorgate: {printable(line)}", file=sys.stderr, flush=True)  # noqa: T201  the one line that helps


def printable(text: str) -> str:
    """One line without control characters: names, images and messages are strangers' texts, and terminals obey."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))


def refused_permission(broker: Broker, *words: str) -> str | None:
    """What NATS said it does not let this user do, with these words in the subject; such a request is never answered."""
    for refusal in broker.refusals:
        if all(word.lower() in refusal.lower() for word in words):
            return " ".join(refusal.split())
    return None


def _why_unanswered(broker: Broker, error: Unavailable) -> MoorgateError:
    """NATS answers nothing that it does not let a user do: such a silence is none."""
    if error.neighbour != "nats" or not broker.refusals:
        return error
    return MoorgateError(
        f"this user of NATS may not do that: {' '.join(broker.refusals[0].split())}; see docs/nats.md"
    )


async def _connected(broker: Broker, url: str) -> None:
    """Wait for the connection, no longer than there is hope. Raises `Unavailable`."""
    connected = asyncio.create_task(broker.connected())
    began = asyncio.get_running_loop().time()
    try:
        while not (await asyncio.wait({connected}, timeout=_POLL))[0]:
            waited = asyncio.get_running_loop().time() - began
            if waited >= CONNECT_TIMEOUT or _is_hopeless(broker, waited):
                raise Unavailable("nats", _why_not(broker, url))
    finally:
        connected.cancel()


def _is_hopeless(broker: Broker, waited: float) -> bool:
    """Whether waiting longer changes nothing: the client itself would try for ever."""
    last = broker.client.last_error
    if isinstance(last, ConnectionRefusedError):
        return waited >= REFUSED_TIMEOUT
    text = str(last or "").lower()
    return "authorization" in text or "certificate" in text


def _why_not(broker: Broker, url: str) -> str:
    where = shown_url(url)
    last = str(broker.client.last_error or "")
    if "authorization" in last.lower():
        return f"{where} does not accept the user or the password: check MOORGATE_NATS_USER and its password"
    if "certificate" in last.lower():
        return f"{where} has a certificate that is not trusted: give --nats-ca-file ({last})"
    return (
        f"it does not answer at {where}: start it, forward its port, or correct --nats-url"
        f" (MOORGATE_NATS_URL){f' ({last})' if last else ''}"
    )
