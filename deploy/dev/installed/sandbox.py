"""What a container runtime does between fork and exec: own mounts, read-only root, host name, user; then the program.

Run as `python -I -S sandbox.py SPEC`, a JSON file with the fields of `Sandbox` in containers.py. The root is this
machine's own, seen read-only through an overlay: its interpreter and packages stand for the image's. The layer on
top holds nothing but mount points. Namespaces and mounts end with the process.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUTS = 0x00020000, 0x04000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG = 1

LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Replace this process by the container's program."""
    parent, spec = os.getppid(), json.loads(Path(sys.argv[1]).read_text())
    scratch = Path(spec["scratch"])
    done(LIBC.unshare(CLONE_NEWNS | CLONE_NEWUTS), "unshare")
    mount("", "/", "", MS_REC | MS_PRIVATE)
    mount("tmpfs", scratch, "tmpfs")
    root, layer = scratch / "root", scratch / "layer"
    root.mkdir()
    layer.mkdir()
    for folder in spec["open"]:  # the interpreter may lie in a home that only its owner may enter
        make_open(layer, folder)
    for bind in spec["binds"]:
        make_point(layer / bind["target"].lstrip("/"), is_folder=Path(bind["source"]).is_dir())
    mount("overlay", root, "overlay", 0, f"lowerdir={layer}:/")
    for folder in ("/proc", "/dev", *spec["beside"]):
        mount(folder, f"{root}{folder}", "", MS_BIND | MS_REC)
    for bind in spec["binds"]:
        target = f"{root}{bind['target']}"
        mount(bind["source"], target, "", MS_BIND)
        if bind["read_only"]:
            mount("", target, "", MS_BIND | MS_REMOUNT | MS_RDONLY)
    name = spec["hostname"].encode()
    done(LIBC.sethostname(name, len(name)), "sethostname")
    os.chroot(root)
    os.chdir(spec["working_folder"])
    become(spec, parent)


def become(spec: dict, parent: int) -> None:  # type: ignore[type-arg]  # JSON
    """Another user, still tethered to the node, and then the program."""
    os.setgroups(spec["groups"])
    os.setgid(spec["gid"])
    os.setuid(spec["uid"])
    # A change of user unties the tether (see deploy/dev/tether.py).
    done(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
    if os.getppid() != parent:
        sys.exit(1)
    os.execvpe(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606 - becoming another program is the point


def make_open(layer: Path, folder: str) -> None:
    """The folders on the way, which anybody may pass."""
    here = layer
    for part in Path(folder).parts[1:]:
        here /= part
        here.mkdir(exist_ok=True)
        here.chmod(0o755)


def make_point(target: Path, *, is_folder: bool) -> None:
    """Something to mount on."""
    if is_folder:
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()


def mount(source: str | Path, target: str | Path, kind: str, flags: int = 0, options: str = "") -> None:
    """The system call, by text."""
    arguments = (
        str(source).encode(),
        str(target).encode(),
        kind.encode() or None,
        flags,
        options.encode() or None,
    )
    done(LIBC.mount(*arguments), f"mount {source} {target}")


def done(result: int, what: str) -> None:
    """Raises OSError with the kernel's reason."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
