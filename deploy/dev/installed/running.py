"""One Pod on this machine: volumes, init containers, containers, readiness, its end.

A container that ends is started again as its restart policy says; a Pod that is deleted gets its preStop pause,
SIGTERM and its grace period. The status that is reported is what is so: Ready only while the readiness probe says it.
"""

import asyncio
import shutil
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec

from deploy.dev.installed import containers
from deploy.dev.installed.containers import Bind, Json, NotReadyError, Sandbox
from deploy.dev.installed.programs import Programs
from deploy.dev.installed.sources import SourcesReader
from deploy.dev.installed.status import Container, pod_status
from deploy.dev.installed.volumes import Maker
from deploy.dev.kubeapi import ApiError, KubeApi
from deploy.dev.processes import tethered

LOOK = 0.25
"""Seconds between two looks at what a Pod waits for, and between two readiness probes: a kubelet's period is the
template's; here it would only make tests slower."""

RESTART_DELAY = 1.0
"""A kubelet begins with ten seconds."""


@dataclass(kw_only=True)
class RunningPod:
    """One Pod, from its first sight to its removal."""

    api: KubeApi
    pod: Json
    folder: Path
    """Of the node; its own things lie below `pods`."""
    address: str
    variables: dict[str, str]
    """Added to every container's: where the API server is."""
    programs: Programs
    sources: SourcesReader
    is_dead: bool = False
    """Its containers never start."""
    is_leaving: asyncio.Event = field(default_factory=asyncio.Event)
    _containers: list[Container] = field(default_factory=list, init=False)
    _inits: list[Container] = field(default_factory=list, init=False)
    _said: Json | None = field(default=None, init=False)

    @property
    def path(self) -> str:
        """In the API."""
        metadata = self.pod["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"

    @property
    def name(self) -> str:
        """Of the Pod."""
        return str(self.pod["metadata"]["name"])

    @property
    def own_folder(self) -> Path:
        """Volumes and sandboxes."""
        return self.folder / "pods" / str(self.pod["metadata"]["uid"])

    async def run(self) -> None:
        """Until the Pod is gone from the API server."""
        spec = self.pod["spec"]
        self._inits = [Container(each) for each in spec.get("initContainers", [])]
        self._containers = [Container(each) for each in spec["containers"]]
        life = asyncio.create_task(self._live())
        leaving = asyncio.create_task(self.is_leaving.wait())
        try:
            await asyncio.wait({life, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if life.done():
                life.result()
            await leaving  # a finished Pod stays until somebody deletes it
            await self._end(life)
        finally:
            life.cancel()
            for each in self._containers:
                if each.process and each.process.returncode is None:
                    each.process.kill()
        await self._remove()
        shutil.rmtree(self.own_folder, ignore_errors=True)

    async def _live(self) -> None:
        if self.is_dead:
            await self._report()
            return
        made = await self._volumes()
        for init in self._inits:
            while not init.is_done:
                await self._run_once(init, made)
                await self._report()
        probes = asyncio.create_task(self._watch_readiness())
        try:
            await asyncio.gather(*(self._keep_running(each, made) for each in self._containers))
        finally:
            probes.cancel()
        await self._report()

    async def _volumes(self) -> dict[str, Path]:
        maker = Maker(
            api=self.api,
            pod=self.pod,
            address=self.address,
            folder=self.own_folder / "volumes",
            claims=self.folder / "claims",
        )
        while True:
            try:
                sources = await self.sources.read()
                return await maker.make(sources)
            except NotReadyError as error:
                await self._report(waiting=str(error))
                await asyncio.sleep(LOOK)

    async def _keep_running(self, container: Container, made: dict[str, Path]) -> None:
        while not container.is_done:
            await self._run_once(container, made)
            container.is_ready = False
            await self._report()
            if not container.is_done:
                await asyncio.sleep(RESTART_DELAY)

    async def _run_once(self, container: Container, made: dict[str, Path]) -> None:
        container.process = await self._start(container, made)
        container.exit_code = None
        await self._report()
        container.exit_code = await container.process.wait()
        policy = self.pod["spec"].get("restartPolicy", "Always")
        is_init = container in self._inits
        ends_well = container.exit_code == 0
        container.is_done = (ends_well and (is_init or policy != "Always")) or policy == "Never"
        container.restarts += not container.is_done
        if is_init and policy == "Never" and not ends_well:
            raise RuntimeError(f"init container {container.template['name']} of {self.name} failed")

    async def _start(self, container: Container, made: dict[str, Path]) -> asyncio.subprocess.Process:
        sandbox = await self._sandbox(container.template, made)
        file = self.own_folder / f"{container.template['name']}.json"
        file.write_bytes(msgspec.json.encode(sandbox))
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        argv = tethered([sys.executable, "-I", "-S", Path(__file__).with_name("sandbox.py"), file])
        with (logs / f"{self.name}-{container.template['name']}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    async def _sandbox(self, template: Json, made: dict[str, Path]) -> Sandbox:
        variables = await self._environment(template)
        program = self.programs.of(template["image"])
        argv = containers.command(template, program.entrypoint, variables)
        uid, gid, groups = containers.user(self.pod, template)
        scratch = self.own_folder / "scratch" / template["name"]
        scratch.mkdir(parents=True, exist_ok=True)
        return Sandbox(
            argv=[*argv, *program.further_arguments(self.address, template)],
            env={
                **self.programs.environment,
                **self.variables,
                **variables,
                **program.rewritten(self.address, variables),
            },
            working_folder=template.get("workingDir", "/"),
            hostname=self.name,
            uid=uid,
            gid=gid,
            groups=groups,
            binds=[Bind(str(self.folder / "hosts"), "/etc/hosts", read_only=True), *_binds(template, made)],
            scratch=str(scratch),
            open=self.programs.open_folders,
            beside=self.programs.beside,
        )

    async def _environment(self, template: Json) -> dict[str, str]:
        while True:
            try:
                return containers.environment(self.pod, template, await self.sources.read(), self.address)
            except NotReadyError as error:
                await self._report(waiting=str(error))
                await asyncio.sleep(LOOK)

    async def _watch_readiness(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                for each in self._containers:
                    each.is_ready = await self._is_ready(session, each)
                await self._report()
                await asyncio.sleep(LOOK)

    async def _is_ready(self, session: aiohttp.ClientSession, container: Container) -> bool:
        if container.process is None or container.process.returncode is not None:
            return False
        probe = container.template.get("readinessProbe")
        if probe is None:
            return True
        scheme, host, port, path = containers.probe_target(container.template, probe, self.address)
        try:
            if scheme == "tcp":
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
                return True
            async with session.get(f"{scheme}://{host}:{port}{path}", ssl=False) as answer:
                return answer.status < 400  # noqa: PLR2004  as the kubelet judges
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def _end(self, life: asyncio.Task[None]) -> None:
        """preStop, SIGTERM, the grace period, SIGKILL."""
        life.cancel()
        with suppress(asyncio.CancelledError):
            await life
        for each in self._containers:
            each.is_ready = False
        await self._report()
        grace = self.pod["metadata"].get("deletionGracePeriodSeconds", 30)
        try:
            async with asyncio.timeout(grace):
                await asyncio.gather(*(self._stop(each) for each in [*self._inits, *self._containers]))
        except TimeoutError:
            for each in self._containers:
                if each.process and each.process.returncode is None:
                    each.process.kill()

    async def _stop(self, container: Container) -> None:
        process = container.process
        if process is None or process.returncode is not None:
            return
        hook = container.template.get("lifecycle", {}).get("preStop", {})
        if hook:
            await asyncio.sleep(hook["sleep"]["seconds"])
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()

    async def _remove(self) -> None:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.pod["metadata"]["uid"]}}
        with suppress(ApiError):  # gone already
            await self.api.request("DELETE", self.path, options)

    async def _report(self, waiting: str = "") -> None:
        status = pod_status(self._inits, self._containers, self.address, waiting)
        if status == self._said:
            return
        times = {"lastTransitionTime": _now()}
        body = {**status, "conditions": [{**each, **times} for each in status["conditions"]]}
        try:
            await self.api.merge_patch(
                f"{self.path}/status", {"metadata": {"uid": self.pod["metadata"]["uid"]}, "status": body}
            )
        except (ApiError, aiohttp.ClientError, TimeoutError) as error:  # told again with the next probe
            print(f"status of {self.name} not taken: {error!r}", flush=True)
            return
        self._said = status


def _binds(template: Json, made: dict[str, Path]) -> list[Bind]:
    binds = []
    for each in template.get("volumeMounts", []):
        source = made[each["name"]] / each.get("subPath", "")
        binds.append(Bind(str(source), each["mountPath"].rstrip("/"), bool(each.get("readOnly", False))))
    return binds


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
