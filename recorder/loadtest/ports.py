"""Ports for test runs that go side by side on one machine.

A port taken by binding to 0 and closing again is anybody's: it lies where the kernel hands out ports by itself. So a
run leases a stretch below that range and holds a file lock on it; the lock ends with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from recorder.errors import StartError

_FIRST, _LAST = 10_000, 32_767
_STRIDE = 20


class PortLease:
    """`count` neighbouring ports of 127.0.0.1, from an even `first` on, ours alone until `release`."""

    def __init__(self, first: int, count: int, locks: ExitStack) -> None:
        self.first = first
        self.count = count
        self._locks = locks

    @property
    def last(self) -> int:
        """The last port of the stretch."""
        return self.first + self.count - 1

    def release(self) -> None:
        """Give the ports back. Harmless when done twice."""
        self._locks.close()

    def __enter__(self) -> PortLease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def lease(count: int) -> PortLease:
    """Lease `count` neighbouring ports. Raises StartError when there is no such stretch left."""
    blocks = -(-count // _STRIDE)
    last = min(_LAST, _first_ephemeral_port() - 1)
    starts = list(range(_FIRST, last - blocks * _STRIDE + 2, _STRIDE))
    # Neighbours start their search at different places, so that they seldom get into each other's way.
    turn = random.randrange(len(starts)) if starts else 0  # noqa: S311  # not a secret
    for first in starts[turn:] + starts[:turn]:
        taken = _lock(first, blocks)
        if taken is None:
            continue
        if all(_is_free(port) for port in range(first, first + count)):
            return PortLease(first, count, taken)
        taken.close()
    raise StartError(f"no {count} neighbouring ports between {_FIRST} and {last} are free; end other test runs first")


def _lock(first: int, blocks: int) -> ExitStack | None:
    with ExitStack() as stack:
        for block in range(blocks):
            handle: IO[bytes] = stack.enter_context((_folder() / f"{first + block * _STRIDE}.lock").open("wb"))
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return None
        return stack.pop_all()


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"recorder-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind is socket.SOCK_STREAM))
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def _first_ephemeral_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return _LAST + 1
