"""The road from a desk to the chart's own NATS, where nobody has said where NATS is: its Service's port, forwarded.

`kubectl port-forward` does it, as a child process for as long as the command runs. The user `operator`, his password and the
authority to trust come from the chart's Secrets, where the person may read them; flags and settings come first. Without a
cluster, without kubectl or without such a Service nothing is forwarded, and NATS is looked for where settings have it.

RBAC: `list` of services and pods, `get` of services, `create` of pods/portforward, `get` of the Secrets `…-users` and `…-tls`.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from services.cli.bootstrap import secrets
from services.cli.bootstrap.file import SecretName
from services.cli.bootstrap.secrets import KubeSecret
from shared.broker import BrokerSettings
from shared.cluster import Cluster, open_cluster
from shared.errors import MoorgateError, Refused
from shared.objects import ObjectMeta
from shared.settings import Environment, Secret

USER = "operator"
"""Whom the command line is, to NATS (docs/nats.md)."""

READY = 15.0
"""Seconds kubectl may take to find the Pod."""

GONE = 3.0
"""Seconds it may take to end."""

PORT = 4222
_SELECTOR = "app.kubernetes.io/part-of=moorgate,app.kubernetes.io/component=nats"
_HEADLESS = "None"
_FORWARDING = re.compile(rb"Forwarding from 127\.0\.0\.1:(\d+)")
_FORBIDDEN = 403


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    cluster_ip: str = msgspec.field(default="", name="clusterIP")


class _Service(msgspec.Struct, frozen=True):
    metadata: ObjectMeta
    spec: _Spec = _Spec()


class _Services(msgspec.Struct, frozen=True):
    items: list[_Service]


@contextlib.asynccontextmanager
async def forwarded(
    settings: BrokerSettings, context: str | None, namespace: str | None, say: Callable[[str], None]
) -> AsyncIterator[BrokerSettings]:
    """The settings by which the chart's NATS is reached while the context is open; the same ones where it cannot be.

    Raises `MoorgateError` where it is there, and the road to it cannot be made.
    """
    environment = Environment(os.environ)
    kubectl = shutil.which("kubectl")
    if not environment.has_cluster or kubectl is None:
        yield settings
        return
    within = namespace or environment.text("MOORGATE_NAMESPACE", "moorgate")
    async with contextlib.AsyncExitStack() as stack:
        found = await _service(stack, context, within)
        if found is None:
            yield settings
            return
        cluster, service = found
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        known = await _known(cluster, SecretName(namespace=within, name=service), settings, folder)
        command = [kubectl, *([f"--context={context}"] if context else []), f"--namespace={within}"]
        command += ["port-forward", "--address=127.0.0.1", f"service/{service}", f":{PORT}"]
        port = await stack.enter_async_context(_child(command))
        say(
            f"NATS by kubectl port-forward service/{service} of namespace {within}, as {known.user or 'nobody'}"
        )
        scheme = "tls" if known.ca_file else "nats"
        yield msgspec.structs.replace(known, url=f"{scheme}://127.0.0.1:{port}")


async def _service(
    stack: contextlib.AsyncExitStack, context: str | None, namespace: str
) -> tuple[Cluster, str] | None:
    """The cluster, and the name of the Service that clients use. What is wrong with the cluster says who needs it."""
    try:
        cluster = await stack.enter_async_context(open_cluster(context))
        path, query = f"/api/v1/namespaces/{namespace}/services", {"labelSelector": _SELECTOR}
        answer = await cluster.request("GET", path, query=query)
        found = msgspec.json.decode(answer, type=_Services).items
    except (MoorgateError, msgspec.MsgspecError):
        return None
    names = [each.metadata.name for each in found if each.spec.cluster_ip != _HEADLESS]
    return (cluster, names[0]) if names else None


async def _known(
    cluster: Cluster, service: SecretName, settings: BrokerSettings, folder: Path
) -> BrokerSettings:
    """The settings, with what they lack from the chart's Secrets."""
    found = settings
    if not (settings.user or settings.creds_file or settings.cert_file):
        users = await _secret(cluster, service, "users", "--nats-user and --nats-password-file")
        password = users.value(USER) if users else ""
        if password:
            found = msgspec.structs.replace(found, user=USER, password=Secret(password))
    if not settings.ca_file:
        tls = await _secret(cluster, service, "tls", "--nats-ca-file")
        if tls and (authority := tls.value("ca.crt")):
            path = folder / "ca.crt"
            path.write_text(authority)
            found = msgspec.structs.replace(found, ca_file=str(path))
    return found


async def _secret(cluster: Cluster, service: SecretName, part: str, flags: str) -> KubeSecret | None:
    name = SecretName(namespace=service.namespace, name=f"{service.name}-{part}")
    try:
        return await secrets.read(cluster, name)
    except Refused as error:
        if error.status != _FORBIDDEN:
            raise
        raise MoorgateError(
            f"NATS is in the cluster, and you may not read its Secret {name}: give --nats-url, {flags}"
        ) from error


@contextlib.asynccontextmanager
async def _child(command: list[str]) -> AsyncIterator[int]:
    """The child while the context is open; gives the port. Raises `MoorgateError`."""
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield await _port(child)
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(child.wait(), GONE)
        except TimeoutError:
            child.kill()
            await child.wait()


async def _port(child: asyncio.subprocess.Process) -> int:
    if child.stdout is None or child.stderr is None:  # both are pipes
        raise AssertionError
    try:
        line = await asyncio.wait_for(child.stdout.readline(), READY)
    except TimeoutError:
        raise MoorgateError(
            "kubectl port-forward found no Pod of NATS in time: see kubectl get pods"
        ) from None
    if found := _FORWARDING.match(line):
        return int(found[1])
    said = (await child.stderr.read()).decode(errors="replace").strip().splitlines()
    raise MoorgateError(f"kubectl port-forward: {said[-1] if said else 'it ended without a word'}")
