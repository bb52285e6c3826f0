"""Measures what each format takes, in MB and in CPU, for a minute of talk: `python -m tests.media.measure_formats`.

Two people who take turns, from the recorded prompts of Debian's asterisk-core-sounds-en-wav as G.711 leaves them. The
CPU is that of `PartFile.commit`, which encodes and syncs: what it costs when the call is over.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from recorder.file_format import ENCODINGS, FileFormat
from recorder.media.mixer import apart, mix
from recorder.media.part_file import PartFile
from recorder.media.source import Samples

PROMPTS = Path("/usr/share/asterisk/sounds")
RATE = 8000
PAUSE = np.zeros(RATE // 2, np.int16)


def talk(seconds: float) -> tuple[Samples, Samples]:
    """Two voices, one of which speaks at a time."""
    legs: tuple[list[Samples], list[Samples]] = [], []
    length, turn = 0, 0
    prompts = [path for path in sorted(PROMPTS.rglob("*.wav")) if soundfile.info(path).frames > 2 * RATE]
    assert prompts, "install Debian's asterisk-core-sounds-en-wav"
    while length < seconds * RATE:
        raw = io.BytesIO()
        spoken, _ = soundfile.read(prompts[turn * 7 % len(prompts)], dtype="int16")
        soundfile.write(raw, spoken, RATE, format="RAW", subtype="ULAW")
        raw.seek(0)
        spoken, _ = soundfile.read(
            raw, dtype="int16", samplerate=RATE, channels=1, format="RAW", subtype="ULAW", always_2d=False
        )
        legs[turn % 2].extend((spoken, PAUSE))
        legs[1 - turn % 2].append(np.zeros(len(spoken) + len(PAUSE), np.int16))
        length += len(spoken) + len(PAUSE)
        turn += 1
    a, b = (np.concatenate(leg)[: round(seconds * RATE)] for leg in legs)
    return a, b


def measure(one: FileFormat, a: Samples, b: Samples, folder: Path) -> None:
    """Commit one recording and print its line."""
    part = PartFile.create(folder / f"{one.label}{one.suffix}", RATE, one)
    part.write(mix(a, b) if one.channels == 1 else apart(a, b))
    before = time.process_time()
    written = part.commit()
    took_s = time.process_time() - before
    minutes = len(a) / RATE / 60
    print(  # noqa: T201
        f"{one.label:14} {written.bytes / 1e6 / minutes:6.2f} MB a minute   "
        f"CPU {1000 * took_s / minutes:7.1f} ms a minute, {100 * took_s / minutes / 60:6.3f} % of one core"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    voices = talk(parser.parse_args().seconds)
    with tempfile.TemporaryDirectory() as temporary:
        for channels in (1, 2):
            for encoding in ENCODINGS:
                measure(FileFormat(encoding, channels), *voices, Path(temporary))
