"""Ties a program's life to its parent's, then becomes that program.

Run as `python -I -S tether.py PARENT PROGRAM ARGUMENT…`. The kernel sends SIGKILL when the parent ends,
however it ends: a test session under kill -9 leaves no etcd behind. A file of its own, run by the child,
because a hook between fork and exec is unsafe in a process with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Replace this process by the program named on the command line."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != parent:  # it ended before the tether was tied
        sys.exit(1)
    os.execvp(program[0], program)  # noqa: S606 - becoming another program is the point


if __name__ == "__main__":
    main()
