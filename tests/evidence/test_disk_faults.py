"""Each fault that a disk can have, under running calls: their media unhurt, what can be kept kept, the loss exact."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder.loadtest.options import Phase
from recorder.loadtest.spread import SpreadSound
from recorder.loadtest.subject import Subject
from recorder.loadtest.tones import Codec
from recorder.loadtest.traffic import CallSeen, PhaseRun, Traffic
from recorder.loadtest.verify import Silence, zero_runs
from tests.evidence.calls import judge
from tests.evidence.loop_disk import LoopDisk
from tests.evidence.size import FULL, figures
from tests.tones import RATE, read_wav

CALLS = 50 if FULL else 6
FAULT_S = 30.0 if FULL else 1.5
BEFORE_S = 2.5 if FULL else 1.2  # from the first call to the fault: the last calls come after it has begun, ...
RAMP_S = 3.5 if FULL else 1.5
DURATION_S = FAULT_S + (1.8 if FULL else 1.0)  # ... and the first ones end before it is over


@dataclass(frozen=True, slots=True)
class Fault:
    """How it begins and ends. `queue_mb` of memory wait for it; `loses` the most that each recording may lose."""

    begin: Callable[[LoopDisk], None]
    end: Callable[[LoopDisk], None]
    queue_mb: int = 256
    loses_s: float = 0.0
    causes: tuple[str, ...] = ()


def delete_folder(disk: LoopDisk) -> None:
    shutil.rmtree(disk.mount_point / "recordings")


FAULTS = {
    "full": Fault(LoopDisk.fill, LoopDisk.make_room),
    "stall": Fault(LoopDisk.freeze, LoopDisk.thaw),
    "folder deleted": Fault(delete_folder, lambda _: None),
    # What the kernel had not written when it was over is gone with it: what came since recording.sync_s.
    "read-only": Fault(LoopDisk.make_read_only, LoopDisk.come_back, loses_s=7.0, causes=("file_lost",)),
    "I/O error": Fault(LoopDisk.fail, LoopDisk.come_back, loses_s=7.0, causes=("file_lost",)),
}
SMALL = ("stall", "folder deleted", "I/O error")
if FULL:
    FAULTS["stall, with little memory"] = Fault(
        LoopDisk.freeze, LoopDisk.thaw, queue_mb=8, loses_s=30.0, causes=("storage",)
    )


class DisturbedError(Exception):
    """The machine stood still, and RTP came too late: that shows in a recording, whatever the disk does."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", FAULTS if FULL else SMALL)
def test_calls_go_on_and_what_can_be_kept_is_kept(tmp_path: Path, name: str) -> None:
    try:
        place_calls(tmp_path / "first", name)
    except DisturbedError:
        place_calls(tmp_path / "second", name)


def place_calls(tmp_path: Path, name: str) -> None:
    tmp_path.mkdir()
    fault = FAULTS[name]
    try:
        disk = LoopDisk(tmp_path / "scratch", 200 if FULL else 30)
    except (PermissionError, FileNotFoundError) as error:
        pytest.skip(f"no disk that may fail: {error}")
    with disk:
        folder = disk.mount_point / "recordings"
        changes = {
            "recording": {"folder": str(folder), "queue_mb": fault.queue_mb},
            "library": {"index": str(tmp_path / "index.sqlite")},
        }
        subject = Subject(tmp_path / "recorder", calls=CALLS, changes=changes)
        subject.recordings = folder
        with subject:
            traffic, unready = run_under(subject, disk, fault, tmp_path)
            answered = [call for call in traffic.calls.values() if call.answered is not None]
            wait_for(lambda: len(list(folder.glob("*.json"))) == len(answered), "every manifest")
            wait_for(subject.api.is_ready, "readiness")
            metrics = subject.api.metrics()
            judge_all(name, fault, subject, answered, metrics, traffic.rtp)
        assert traffic.rtp["missing"] == 0, "calls must not notice"
        assert len(answered) == CALLS
        assert unready == (FAULT_S > 8 and name != "folder deleted"), "/readyz says so"


def run_under(subject: Subject, disk: LoopDisk, fault: Fault, folder: Path) -> tuple[Traffic, bool]:
    """Place the calls and let the fault happen among them; also tells whether /readyz said 503."""
    phase = Phase(name="fault", calls=CALLS, rate=CALLS / RAMP_S, duration_s=DURATION_S)
    with (
        SpreadSound(folder, Codec.PCMU) as spread,
        PhaseRun(phase, subject.sip_address, subject.application_port, Codec.PCMU, folder, spread.sound) as run,
    ):
        spread.follow(run)
        time.sleep(BEFORE_S)
        fault.begin(disk)
        try:
            time.sleep(FAULT_S * 0.9)
            unready = subject.api.request("/readyz")[0] == 503
            time.sleep(FAULT_S * 0.1)
        finally:
            fault.end(disk)
        traffic = run.finish(lambda: None)
        traffic.rtp.update(spread.stop())
    return traffic, unready


def judge_all(
    name: str,
    fault: Fault,
    subject: Subject,
    calls: list[CallSeen],
    metrics: dict[str, float],
    rtp: dict[str, int],
) -> None:
    lost, kept, most, faults = 0, 0, 0, []
    strange = set()
    for call in calls:
        paths = list(subject.recordings.glob(f"*~{call.dialog_id}.json"))
        if len(paths) != 1:
            faults.append(f"{call.called}: {len(paths)} manifests")
            continue
        manifest: dict[str, Any] = json.loads(paths[0].read_text())
        wrong, gone = examine(paths[0].with_name(manifest["file_name"]), manifest, call)
        faults += [f"{call.called}: {fault}" for fault in wrong]
        lost, kept, most = lost + gone, kept + manifest["samples"] - gone, max(most, gone)
        strange |= {gap["cause"] for gap in manifest["gaps"]} - set(fault.causes)
        if not subject.api.knows(call.dialog_id):
            faults.append(f"{call.called}: not in the index")
    figures.info(
        "%s for %.0f s under %d calls: %d RTP packets, %d missing; kept %.1f s of %.1f s (%.2f %%), a recording lost "
        "%.2f s at most; recorder_lost_samples_total %.0f",
        *(name, FAULT_S, len(calls), rtp["received"], rtp["missing"], kept / RATE, (kept + lost) / RATE),
        *(100 * kept / (kept + lost), most / RATE, metrics["recorder_lost_samples_total"]),
    )
    if strange and strange <= {"late", "no_rtp", "never_started"}:
        raise DisturbedError(f"gaps by {strange}; {faults}")
    assert strange == set()
    assert faults == []
    assert most <= fault.loses_s * RATE
    assert bool(lost) == bool(fault.causes)
    assert metrics["recorder_dropped_samples_total"] == 0
    assert metrics["recorder_lost_samples_total"] == lost


def examine(path: Path, manifest: dict[str, Any], call: CallSeen) -> tuple[list[str], int]:
    """What is wrong with a recording: both voices outside its gaps, nothing in them, and no other silence."""
    gaps = [(gap["start_sample"], gap["start_sample"] + gap["samples"]) for gap in manifest["gaps"]]
    silences = [Silence((start / RATE, stop / RATE), (start / RATE - 0.01, stop / RATE + 0.01)) for start, stop in gaps]
    judged = judge(path, silences)
    faults = judged.faults
    if call.length_s is not None and abs(judged.length_s - call.length_s) > 0.15:
        faults.append(f"{judged.length_s:.2f} s long, {call.length_s:.2f} s were answered")
    samples, _ = read_wav(path)
    settled = (0.3 * RATE, len(samples) - 0.1 * RATE)
    silent = np.array([run for run in zero_runs(samples, 160) if settled[0] < run[1] and run[0] < settled[1]])
    listed = np.array([gap for gap in gaps if settled[0] < gap[1] and gap[0] < settled[1]])
    if silent.shape != listed.shape or (len(listed) and np.abs(silent - listed).max() > 8):
        faults.append(f"silent at {silent.tolist()}, and the manifest lists {gaps}")
    return faults, sum(stop - start for start, stop in gaps)


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.1)
