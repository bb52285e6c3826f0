"""The power fails under running calls: what was kept stays kept, and of the others hardly more is lost than sync_s.

The disk stops to take anything in the middle of it all, and is mounted anew with what had reached it: what the kernel
still had in memory is gone, as after a cut. (What a disk's own cache does is up to the disk.)
"""

from __future__ import annotations

import random
import secrets
import time
from pathlib import Path

import pytest

from recorder.loadtest.subject import Subject
from tests.evidence.loop_disk import LoopDisk
from tests.evidence.size import FULL, figures
from tests.evidence.test_kill import Found, one_kill, recorder_of_all_formats

CUTS = 20 if FULL else 1
SYNC_S = 0.5
LONGEST_LOSS_S = SYNC_S + (1.0 if FULL else 2.0)  # the test run shares the machine


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "sealed", [False, True] if FULL else [True], ids=lambda sealed: "sealed" if sealed else "plain"
)
def test_a_power_cut_costs_what_was_not_synced_and_nothing_else(tmp_path: Path, sealed: bool) -> None:
    try:
        disk = LoopDisk(tmp_path / "scratch", 200)
    except (PermissionError, FileNotFoundError) as error:
        pytest.skip(f"no disk that may fail: {error}")
    found, seed = Found(), secrets.randbits(32)
    chance, began = random.Random(seed), time.monotonic()
    with disk:
        folder = disk.mount_point / "recordings"
        subject = recorder_of_all_formats(tmp_path / "recorder", sealed, folder=str(folder), sync_s=SYNC_S)
        subject.recordings = folder
        with subject:
            for _ in range(CUTS):
                found.add(one_kill(subject, chance, lambda: cut(disk, subject), unborn_s=LONGEST_LOSS_S))
    ordered = sorted(found.short_s)
    figures.info(
        "%d cuts (seed %d, recording.sync_s %.1f) in %.0f s: %d calls, %d recovered, %d within a muted step; %d "
        "answered less than %.1f s before and without a file; short by %.2f s (median), %.2f s (most); recovered: %s",
        *(CUTS, seed, SYNC_S, time.monotonic() - began, found.calls, found.recovered, found.muted, found.unborn),
        *(LONGEST_LOSS_S, ordered[len(ordered) // 2], ordered[-1], dict(sorted(found.kinds.items()))),
    )
    assert found.faults == []
    assert found.calls >= 10 * CUTS
    assert ordered[-1] <= LONGEST_LOSS_S


def cut(disk: LoopDisk, subject: Subject) -> None:
    """The power fails, and is back."""
    disk.fail()
    subject.kill()
    disk.power_on()
