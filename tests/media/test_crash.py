"""kill -9 in the middle of writing, then repair: what had been written is in the recording, at its place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from recorder.media.part_file import part_path, repair
from recorder.media.wav_header import HEADER_BYTES
from tests.media.conftest import ROOT
from tests.tones import RATE, has_tone, read_wav, sine

# Prints its file's length in samples after every round, until it is killed.
PROGRAM = """
import sys
from pathlib import Path
from recorder.media.recording import Recording
from tests.media.taps import FakeTap
from tests.tones import sine
path, a, b = Path(sys.argv[1]), FakeTap(), FakeTap()
recording = Recording(path, 8000, a=a, b=b, origin=0)
for clock in range(0, 1 << 40, 1600):
    a.put(sine(440, 0.2, start=clock), at=clock)
    b.put(sine(1000, 0.2, start=clock), at=clock)
    recording.pump()
    recording.spool.flush(clock / 8000)
    print(recording.samples, flush=True)
"""


def killed(path: Path, rounds: int) -> int:
    """Let the program write, kill it, and return what it last said it had written."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, path], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    with process.stdout:
        for _ in range(rounds):
            said = int(process.stdout.readline())
        process.kill()
        # It may have said more between the last line that was read and its end.
        said = max([said, *(int(line) for line in process.stdout.readlines() if line.endswith("\n"))])
    process.wait()
    return said


def test_a_recording_killed_in_the_middle_is_repaired_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "group~account~1~A.wav"
    said = killed(path, rounds=30)
    assert said >= 28 * 1600
    with part_path(path).open("ab") as file:
        file.write(b"\0")  # and half a sample
    written = repair(part_path(path))
    samples, rate = read_wav(path)
    assert rate == RATE
    assert len(samples) == written.samples >= said
    assert path.stat().st_size == HEADER_BYTES + 2 * len(samples) == written.bytes
    seconds = len(samples) / RATE
    assert np.array_equal(samples, sine(440, seconds) + sine(1000, seconds))
    assert has_tone(samples[-1600:], 440)
    assert list(tmp_path.iterdir()) == [path]


def test_a_recording_killed_before_its_first_block_is_repaired_to_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "group~account~1~A.wav"
    program = "\n".join([*PROGRAM.splitlines()[:-6], "recording.spool.flush(0)", "print(0, flush=True)", "input()"])
    process = subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdin is not None
    with process.stdout, process.stdin:
        process.stdout.readline()
        process.kill()
        process.wait()
    assert repair(part_path(path)).samples == 0
    assert len(read_wav(path)[0]) == 0
