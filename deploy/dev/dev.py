"""`make dev`: the whole stack, left running until Ctrl-C, and what to try with it.

State lives in a temporary folder and is gone afterwards; the kubeconfig is found under a fixed name in the
project's `.cache/dev/`, so that a second terminal needs no copying of paths.
"""

import asyncio
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
from deploy.dev.processes import ProcessError
from deploy.dev.programs import installed
from deploy.dev.road import Road
from deploy.dev.services import ROOT
from deploy.dev.stack import open_stack

KUBECONFIG = ROOT / ".cache" / "dev" / "kubeconfig"

USAGE = """\
export KUBECONFIG={kubeconfig}
alias k={kubectl}

k run good --image=nginx:1.25                        admitted
k run bad --image=registry.example/bad/shop:1.0      refused, and told why
k run slow --image=registry.example/slow/a:1         kubectl waits by itself for the 30 s analysis
k create deployment web --image=redis:7              Pods appear
k get audits -A                                      what is on record
k explain whitelistitem.spec                         how to let a release through

Images the simulator knows: deploy/dev/anchore/catalogue.json; under registry.example/ whatever you call
them: bulk/… pass, bad/… fail, slow/… take 30 s, broken/… cannot be analysed.

NATS      {nats}   (nats --server {nats} {nats_options} stream ls)
Anchore   {anchore}/v1   user admin, password foobar (a simulator)
Webhook   {webhook}
Metrics   {metrics}
Logs      {logs}"""


async def leave_running(console: Console, folder: Path) -> None:
    """Start, explain, wait for Ctrl-C or SIGTERM, stop."""
    terminal = Terminal(console)
    await asyncio.to_thread(provide)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with open_stack(folder, terminal.step) as road:
        KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(road.plane.kubeconfig(), KUBECONFIG)
        console.print(Rule("[bold]Moorgate is running; Ctrl-C ends it", align="left", style="green"))
        console.print(Text(_usage(road)))
        await stopped.wait()
    KUBECONFIG.unlink(missing_ok=True)


def _usage(road: Road) -> str:
    services = road.services
    return USAGE.format(
        kubeconfig=KUBECONFIG,
        kubectl=installed("kubectl"),
        nats=road.nats.url,
        nats_options=road.nats.command_line("operator"),
        anchore=road.anchore_url,
        webhook=services.webhook_url(),
        metrics=" ".join(f"{services.probes_url(name)}/metrics" for name in services.processes),
        logs=services.folder,
    )


def main() -> int:
    """The exit code."""
    console = Console(highlight=False, soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix="moorgate-dev-"))
    try:
        asyncio.run(leave_running(console, folder))
    except ProcessError as error:
        console.print(Text(f"✗ {error}", style="bold red"))
        console.print(f"The logs of every part are in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
