"""Ports for runs side by side."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from recorder.errors import StartError
from recorder.loadtest.ports import lease


def test_leases_do_not_overlap_and_can_be_used() -> None:
    with lease(50) as one, lease(50) as other:
        mine, theirs = set(range(one.first, one.last + 1)), set(range(other.first, other.last + 1))
        assert len(mine) == len(theirs) == 50
        assert not mine & theirs
        assert one.first % 2 == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as user:
            user.bind(("127.0.0.1", one.first))


def test_another_process_stays_away_from_a_lease() -> None:
    ask = "from recorder.loadtest.ports import lease\nwith lease(40) as l: print(l.first, l.last)"
    with lease(2000) as mine:
        for _ in range(5):
            answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, cwd=".")
            first, last = map(int, answer.stdout.split())
            assert last < mine.first or first > mine.last


def test_a_port_in_use_is_not_leased() -> None:
    with lease(1) as free, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as user:
        taken = free.first
        user.bind(("127.0.0.1", taken))
        free.release()
        with lease(2000) as wide:
            assert not wide.first <= taken <= wide.last


def test_more_ports_than_there_are_is_an_error() -> None:
    with pytest.raises(StartError, match="neighbouring ports"):
        lease(60_000)
