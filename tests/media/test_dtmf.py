"""Keys are not heard in the recording, not even their first moment; speech is left alone."""

from __future__ import annotations

import io
import logging
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.loadtest.tones import Codec
from recorder.media.dtmf import EVENT_LEAD_S, LEAD_S, TAIL_S, DigitDetector, DigitRemoval
from recorder.media.part_file import part_path
from recorder.media.recording import Recording
from recorder.media.timeline import Block
from tests.media.taps import FakeTap
from tests.peers.rtp import encoded
from tests.tones import RATE, Samples, read_wav, sine

LOW_HZ, HIGH_HZ = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
FULL_SCALE_DBM = 3.17  # of a sine in mu-law (ITU-T G.711)
PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")


def through(samples: Samples, codec: Codec) -> Samples:
    """The samples as G.711 leaves them."""
    raw = io.BytesIO(encoded(samples, codec))
    heard, _ = soundfile.read(raw, dtype="int16", samplerate=RATE, channels=1, format="RAW", subtype=codec.subtype)
    return np.asarray(heard)


def key(
    number: int,
    ms: float,
    level_dbm: float = -10,
    twist_db: float = 0,
    detuned: float = 0,
    rate: int = RATE,
) -> Samples:
    """A key's two tones. `level_dbm` is the louder one's; twist_db above 0: that of the high group."""
    peak = 32124 * 10 ** ((level_dbm - FULL_SCALE_DBM) / 20)
    low, high = peak * 10 ** (min(0, -twist_db) / 20), peak * 10 ** (min(0, twist_db) / 20)
    time_s = np.arange(round(ms * rate / 1000)) / rate
    tones = low * np.sin(2 * np.pi * LOW_HZ[number // 4] * (1 + detuned) * time_s)
    tones += high * np.sin(2 * np.pi * HIGH_HZ[number % 4] * (1 + detuned) * time_s)
    return np.rint(tones).astype(np.int16)


def found(samples: Samples, rate: int = RATE, block: int = 3200) -> list[tuple[int, int]]:
    """What the detector says of them, in blocks, united."""
    detector, stretches = DigitDetector(rate), []
    for at in range(0, len(samples), block):
        stretches += detector.feed(at, samples[at : at + block])
    united: list[tuple[int, int]] = []
    for start, stop in sorted(stretches):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], stop))
        else:
            united.append((start, stop))
    return united


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("level_dbm", [-6, -12, -18, -24, -30])
@pytest.mark.parametrize("twist_db", [-6, 0, 6])
def test_every_key_is_found_whole(codec: Codec, level_dbm: float, twist_db: float) -> None:
    """All 16, from 40 ms on, off by up to 1.5 %, at any place in the frames (ITU-T Q.24)."""
    pieces, places, at = [], [], 0
    for number in range(16):
        for ms, detuned in ((40, 0.0), (40, 0.015), (40, -0.015), (80, 0.015)):
            pause, tone = np.zeros(800 + 7 * number, np.int16), key(number, ms, level_dbm, twist_db, detuned)
            pieces += [pause, tone]
            at += len(pause)
            places.append((at, at + len(tone)))
            at += len(tone)
    heard = through(np.concatenate([*pieces, np.zeros(800, np.int16)]), codec)
    stretches = found(heard)
    assert len(stretches) == len(places)
    for (start, stop), (first, last) in zip(stretches, places, strict=True):
        assert first - 160 <= start <= first + round(LEAD_S * RATE) // 2
        assert last - round(TAIL_S * RATE) // 2 <= stop <= last + 160


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 1500), min_size=1, max_size=40), st.integers(0, 15), st.integers(0, 4000))
def test_blocks_of_any_size_give_the_same(sizes: list[int], number: int, at: int) -> None:
    samples = np.concatenate((np.zeros(at, np.int16), key(number, 60), np.zeros(8000, np.int16)))
    detector, position, stretches = DigitDetector(RATE), 0, []
    while position < len(samples):
        for size in sizes:
            stretches += detector.feed(position, samples[position : position + size])
            position += len(samples[position : position + size])
    assert (min(start for start, _ in stretches), max(stop for _, stop in stretches)) == found(samples)[0]


def test_keys_are_found_at_16_khz() -> None:
    samples = np.concatenate((np.zeros(1600, np.int16), key(5, 40, rate=16000), np.zeros(1600, np.int16)))
    [(start, stop)] = found(samples, rate=16000)
    assert abs(start - 1600) <= 320
    assert abs(stop - 1600 - 640) <= 320


def test_keys_are_found_under_a_voice() -> None:
    """Somebody speaks on, 12 dB below the key."""
    voice = sine(300, 2, amplitude=900) + sine(2100, 2, amplitude=400)
    voice[4000:4640] += key(9, 80, -12)
    [(start, stop)] = found(voice)
    assert abs(start - 4000) <= 80
    assert abs(stop - 4640) <= 80


def voices() -> dict[str, list[Samples]]:
    """Recorded prompts, and synthetic speech of several languages and pitches: a tenth of them, or all."""
    every = 1 if os.environ.get("RECORDER_EVIDENCE") == "full" else 10
    files = [path for path in sorted(PROMPTS.rglob("*.wav")) if "beep" not in path.name and "tone" not in path.name]
    files = files[::every]
    spoken = {"prompts": [read_wav(path)[0] for path in files], "espeak-ng": []}
    text = Path(__file__).parents[2].joinpath("README.md").read_text()[:1500]
    manners = [(language, pitch) for pitch in (20, 50, 85) for language in ("en-us", "de", "fr", "el")]
    for language, pitch in manners[::every]:
        command = ["espeak-ng", "-v", language, "-p", str(pitch), "--stdout", text]
        wave = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout[44:], np.int16)
        count = len(wave) * RATE // 22050
        spectrum = np.fft.rfft(wave.astype(float))[: count // 2 + 1]
        narrow = np.fft.irfft(spectrum, count) * count / len(wave)
        spoken["espeak-ng"].append(np.clip(narrow, -32768, 32767).astype(np.int16))
    return spoken


def test_speech_is_left_alone() -> None:
    """Talk-off: nothing that is spoken counts as a key."""
    for who, pieces in voices().items():
        samples = through(np.concatenate(pieces), Codec.PCMU)
        stretches = found(samples)
        logging.getLogger(__name__).info("%s: %d s of speech, %d false", who, len(samples) / RATE, len(stretches))
        assert len(samples) > 100 * RATE
        assert stretches == []


def recorded(
    path: Path, a: Samples, b: Samples, guard_s: float = 0.3, block_s: float = 0.4, **more: object
) -> Recording:
    """A recording of two legs that has come to its end, in blocks as the writer takes them."""
    taps = FakeTap(0), FakeTap(0)
    recording = Recording(
        path,
        RATE,
        a=taps[0],
        b=taps[1],
        origin=0,
        guard_before_samples=round(guard_s * RATE),
        remove_digits=True,
        **more,
    )
    block = round(block_s * RATE)
    for at in range(0, len(a), block):
        for tap, samples in zip(taps, (a, b), strict=True):
            tap.put(samples[at : at + block], at=at)
        recording.pump()
    recording.finish(len(a))
    recording.commit()
    return recording


@pytest.mark.parametrize("guard_s", [0, 0.3])
@pytest.mark.parametrize("block_s", [0.02, 0.4, 1.0])
def test_a_key_is_silent_in_its_leg_alone_from_before_its_start(path: Path, guard_s: float, block_s: float) -> None:
    caller, application = np.zeros(4 * RATE, np.int16), sine(500, 4, amplitude=2000)
    places = [3100 + 3333 * number for number in range(8)]
    for number, at in enumerate(places):
        caller[at : at + 640] = key(number * 2, 80)
    recording = recorded(path, caller, application, guard_s, block_s)
    samples = read_wav(path)[0]
    assert np.array_equal(samples, application)
    removed = recording.removed_digits
    assert [leg for leg, _, _ in removed] == ["a"] * len(places)
    for (_, start, stop), at in zip(removed, places, strict=True):
        assert at - 400 < start <= at - round(LEAD_S * RATE) // 2
        assert at + 640 <= stop < at + 640 + 400


def test_only_the_key_and_its_lead_are_lost(path: Path) -> None:
    caller = sine(300, 4, amplitude=500)
    said = caller.copy()
    caller[8000:8800] = key(3, 100)
    recording = recorded(path, caller, np.zeros(len(caller), np.int16))
    samples = read_wav(path)[0]
    [(_, start, stop)] = recording.removed_digits
    assert not samples[start:stop].any()
    assert np.array_equal(samples[:start], said[:start])
    assert np.array_equal(samples[stop:], said[stop:])
    assert 8000 - start <= 240
    assert stop - 8800 <= 240


def test_what_leaks_before_a_telephone_event_is_silenced(path: Path) -> None:
    """The gateway needs 40 ms to notice the key; the event says when it did, and comes again while it lasts."""
    tap, silent = FakeTap(0), FakeTap(0)
    recording = Recording(path, RATE, a=tap, b=silent, origin=0, guard_before_samples=2400, remove_digits=True)
    caller = sine(300, 2, amplitude=500)
    caller[8000:8200] = key(3, 25)  # too short to be found by its sound
    caller[8200:9200] = 0
    for at in range(0, len(caller), 400):
        tap.put(caller[at : at + 400], at=at)
        silent.put(np.zeros(400, np.int16), at=at)
        if 8200 <= at < 9000:
            tap.events.append((8200, at + 400 - 8200))
        recording.pump()
    recording.finish(len(caller))
    recording.commit()
    samples = read_wav(path)[0]
    first, last = 8200 - round(EVENT_LEAD_S * RATE), 9200 + round(TAIL_S * RATE)
    assert not samples[first:last].any()
    assert np.array_equal(samples[:first], caller[:first])
    assert np.array_equal(samples[last:], caller[last:])
    assert recording.removed_digits == [("a", first, last)]


def test_no_more_is_held_back_than_without_it(path: Path) -> None:
    """The detector looks ahead into what the guard holds back anyway."""
    for name, removing in (("with", True), ("without", False)):
        tap = FakeTap(0)
        recording = Recording(
            path.with_name(f"{name}.wav"), RATE, a=tap, origin=0, guard_before_samples=2400, remove_digits=removing
        )
        tap.put(sine(300, 2), at=0)
        recording.pump()
        assert recording.samples == 2 * RATE - 2400 - RATE // 10


def test_a_step_that_begins_later_reaches_what_the_detector_has_seen(path: Path) -> None:
    tap = FakeTap(0)
    recording = Recording(path, RATE, a=tap, origin=0, guard_before_samples=2400, remove_digits=True)
    tap.put(sine(300, 2), at=0)
    recording.pump()
    recording.redactions.begin(2 * RATE, "card", "application")
    tap.put(sine(300, 2), at=2 * RATE)
    recording.pump()
    recording.spool.flush(0)
    assert not np.frombuffer(part_path(path).read_bytes(), np.int16)[-8000:].any()
    recording.finish(4 * RATE)
    recording.commit()
    assert recording.escaped_samples == 0
    samples = read_wav(path)[0]
    assert np.array_equal(samples[: 2 * RATE - 2400], sine(300, 2)[:-2400])
    assert not samples[2 * RATE - 2400 :].any()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4000), st.integers(0, 900)), max_size=12))
def test_events_in_any_order_silence_what_is_theirs(events: list[tuple[str, int, int]]) -> None:
    removal = DigitRemoval(RATE)
    for leg, start, length in events:
        removal.add_event(leg, start, length)
    removal.add(Block(0, np.ones(6000, np.int16), np.ones(6000, np.int16)))
    expected = {leg: np.ones(6000, bool) for leg in "ab"}
    for leg, start, length in events:
        expected[leg][max(0, start - round(EVENT_LEAD_S * RATE)) : start + length + round(TAIL_S * RATE)] = False
    [one, two] = [*removal.due(2500), *removal.due(6000)]
    assert np.array_equal(np.concatenate((one.a, two.a)) > 0, expected["a"])
    assert np.array_equal(np.concatenate((one.b, two.b)) > 0, expected["b"])
