"""TCP ports for the programs of the embedded stack.

A port is reserved for as long as the process that asked for it lives, so that a program killed by a
test can come back on the same port, whatever another test session starts in between. The reservation
is a name in Linux's abstract socket namespace: it has the same scope as the ports themselves and
vanishes with its owner, even under kill -9. Nothing on disk is left to clean up.
"""

import errno
import random
import socket

FIRST, LAST = 20_000, 31_999
"""Below 32768, where Linux takes the local ports of outgoing connections from: such a connection can
hold a port that looked free, and the program then fails once in a while with "address already in use"."""

ATTEMPTS = 200


class NoFreePortError(RuntimeError):
    """Every port tried was taken."""


def free_port() -> int:
    """A port that nothing listens on and that no other process of ours will be given while this one lives."""
    for port in random.sample(range(FIRST, LAST + 1), ATTEMPTS):
        if _is_unbound(port) and _reserve(port):
            return port
    raise NoFreePortError(f"none of {ATTEMPTS} ports between {FIRST} and {LAST} is free")


def _is_unbound(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 - conflicts with any listener, whatever its address
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def _reserve(port: int) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as reservation:
        try:
            reservation.bind(f"\0moorgate/port/{port}")
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        reservation.detach()  # stays open, and so reserved, until this process ends
    return True
