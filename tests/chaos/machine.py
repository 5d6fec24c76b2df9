"""What faults make on this machine outside their folder, and how it goes away again.

A network namespace for NATS, joined to us by a pair of interfaces, and small file systems in memory. Both bear
the process id of who made them, so that the next start removes what a run under kill -9 has left behind.
Needs root, `ip` and `iptables`.
"""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MARK = "mgchaos"
"""Begins each name we give. Interfaces have at most 15 characters."""

_OURS = re.compile(rf"{MARK}-(\d+)")


class MachineError(RuntimeError):
    """This machine does not let us make what the fault needs; the text says what to do."""


@dataclass(frozen=True)
class Link:
    """A network namespace and the addresses of both ends of the way to it."""

    namespace: str
    here: str
    there: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """What runs a program inside."""
        return ("ip", "netns", "exec", self.namespace)

    def lose(self, share: float) -> None:
        """From now on so large a share of the packets is dropped, each way; 1: all."""
        choose = () if share >= 1 else ("-m", "statistic", "--mode", "random", "--probability", str(share))
        for chain, way in (("INPUT", "-i"), ("OUTPUT", "-o")):
            _run(*self.prefix, "iptables", "-A", chain, way, _inside(), *choose, "-j", "DROP")

    def mend(self) -> None:
        """Everything passes again."""
        for chain in ("INPUT", "OUTPUT"):
            _run(*self.prefix, "iptables", "-F", chain)

    def dropped(self) -> int:
        """How many packets were dropped since `lose`."""
        listed = _run(*self.prefix, "iptables", "-L", "-v", "-x", "-n")
        return sum(int(line.split()[0]) for line in listed.splitlines() if " DROP " in line)


@contextmanager
def link() -> Iterator[Link]:
    """A network namespace that we reach, for as long as the context lasts."""
    _need_root("a network namespace")
    pid = os.getpid()
    net = f"198.18.{pid >> 6 & 255}"  # of the range that is set aside for tests of networks
    first = (pid & 63) * 4
    made = Link(namespace=f"{MARK}-{pid}", here=f"{net}.{first + 1}", there=f"{net}.{first + 2}")
    outside, inside = f"mgc{pid}", _inside()
    inside_first = ("ip", "-n", made.namespace)
    try:
        _run("ip", "netns", "add", made.namespace)
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", made.namespace)
        _run("ip", "addr", "add", f"{made.here}/30", "dev", outside)
        _run("ip", "link", "set", outside, "up")
        _run(*inside_first, "addr", "add", f"{made.there}/30", "dev", inside)
        _run(*inside_first, "link", "set", inside, "up")
        _run(*inside_first, "link", "set", "lo", "up")
        yield made
    finally:
        _remove_namespace(made.namespace)


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A file system of this size in memory, mounted on the folder."""
    _need_root("a small file system")
    folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", f"{MARK}-{os.getpid()}", str(folder))
    try:
        yield folder
    finally:
        _run("umount", "--lazy", str(folder))


def fill(folder: Path) -> Path:
    """Leave no byte free; deleting the file that it gives makes room again."""
    filler = folder / "filler"
    block = b"\0" * 65536
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        for size in (len(block), 512, 1):
            with contextlib.suppress(OSError):
                while file.write(block[:size]) == size:
                    pass
    return filler


def clean_up() -> None:
    """Remove what runs that are no more have left."""
    for name in _OURS.finditer(_run("ip", "netns", "list")):
        if not _lives(name[1]):
            _remove_namespace(name[0])
    for line in Path("/proc/mounts").read_text().splitlines():
        source, target, *_ = line.split()
        if (found := _OURS.fullmatch(source)) and not _lives(found[1]):
            _run("umount", "--lazy", target)


def _inside() -> str:
    return "moorgate"


def _lives(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()


def _remove_namespace(name: str) -> None:
    if name in _run("ip", "netns", "list"):
        _run("ip", "netns", "delete", name)  # its end of the pair goes with it, and so does ours


def _need_root(what: str) -> None:
    if os.geteuid() != 0:
        raise MachineError(f"{what} needs root: run this fault as root, or leave it out")


def _run(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MachineError(f"{words[0]} is not installed") from error
    if done.returncode != 0:
        raise MachineError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
