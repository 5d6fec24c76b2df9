"""`make dev`: the whole stack, left running until Ctrl-C, and what to try with it.

State lives in a temporary folder and is gone afterwards. What a second terminal needs is found under fixed names in
the project's `.cache/dev/`: the kubeconfig, and `env`, which a shell reads to have kubectl, moorgate and this stack.
"""

import argparse
import asyncio
import os
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from deploy.dev.binaries import provide
from deploy.dev.demo import Terminal
from deploy.dev.page import reader
from deploy.dev.processes import ProcessError
from deploy.dev.programs import installed
from deploy.dev.road import Road
from deploy.dev.services import ROOT
from deploy.dev.stack import open_stack

SHARED = ROOT / ".cache" / "dev"
"""Where another terminal looks."""

USAGE = """\
In another terminal (docs/tutorial.md goes on from here):

. {environment}

kubectl run good --image=nginx:1.25                    admitted
kubectl run bad --image=registry.example/bad/shop:1.0  refused, and told why
kubectl run slow --image=registry.example/slow/a:1     kubectl waits by itself for the 30 s analysis
kubectl create deployment web --image=redis:7          Pods appear
kubectl get audits -A                                  what is on record
moorgate explain pod/bad                               why, and what would let it in
moorgate check redis:7                                 what Anchore says of an image

Images the simulator knows: deploy/dev/anchore/catalogue.json; under registry.example/ whatever you call
them: bulk/… pass, bad/… fail, slow/… take 30 s, broken/… cannot be analysed.

Page      {page}   (its certificate is this stack's own; sign in with what this prints:
          {page_token})
NATS      {nats}   (nats --server {nats} {nats_options} stream ls)
Anchore   {anchore}/v1   user admin, password foobar (a simulator)
Webhook   {webhook}
Metrics   {metrics}
Logs      {logs}"""


async def leave_running(console: Console, folder: Path, shared: Path) -> None:
    """Start, explain, wait for Ctrl-C or SIGTERM, stop. `shared` is where another terminal looks."""
    terminal = Terminal(console)
    await asyncio.to_thread(provide)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with open_stack(folder, terminal.step) as road:
        written = share(road, shared)
        console.print(Rule("[bold]Moorgate is running; Ctrl-C ends it", align="left", style="green"))
        console.print(Text(_usage(road, shared)))
        await stopped.wait()
    for path in written:
        path.unlink(missing_ok=True)


def share(road: Road, folder: Path) -> tuple[Path, ...]:
    """Write what another terminal needs; only this user may read it, for the operator's password is in it."""
    kubeconfig, environment = folder / "kubeconfig", folder / "env"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(road.plane.kubeconfig(), kubeconfig)
    variables = {"KUBECONFIG": str(kubeconfig), **road.nats.settings("operator")}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(f'export PATH={shlex.quote(str(installed("kubectl").parent))}:"$PATH"')
    environment.touch(mode=0o600)
    environment.write_text("\n".join([*lines, ""]))
    return kubeconfig, environment


def _usage(road: Road, shared: Path) -> str:
    services = road.services
    return USAGE.format(
        environment=os.path.relpath(shared / "env"),
        page=services.page_url(),
        page_token=reader.command(road.name),
        nats=road.nats.url,
        nats_options=road.nats.command_line("operator"),
        anchore=road.anchore_url,
        webhook=services.webhook_url(),
        metrics=" ".join(f"{services.probes_url(name)}/metrics" for name in services.processes),
        logs=services.folder,
    )


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description="The whole stack, left running.")
    parser.add_argument("--shared", type=Path, default=SHARED, help="where another terminal looks")
    shared = parser.parse_args().shared
    console = Console(highlight=False, soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix="moorgate-dev-"))
    try:
        asyncio.run(leave_running(console, folder, shared))
    except ProcessError as error:
        console.print(Text(f"✗ {error}", style="bold red"))
        console.print(f"The logs of every part are in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
