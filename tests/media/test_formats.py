"""Each format that a recording can have: what is heard, how large it is, what it says of itself; nothing is lost."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from recorder.byte_store import PlainStorage, PlainStore
from recorder.errors import StorageError
from recorder.file_format import ENCODINGS, FileFormat
from recorder.media.part_file import PartFile, part_path, repair
from recorder.media.recording import Recording
from recorder.media.source import Samples
from recorder.media.wav_header import HEADER_BYTES
from recorder.tags import Tags
from tests.media.disk import no_file_beyond
from tests.media.taps import FakeTap
from tests.tones import RATE, amplitude_of, is_tone, level, read_wav, sine, tone_onset

CALLER, ANSWERER = 440, 1000
FORMATS = [FileFormat(encoding, channels) for encoding in ENCODINGS for channels in (1, 2)]
ENCODED = [one for one in FORMATS if one.encoding != "pcm16"]
TAGS = Tags("4F" * 16, "302105550100", "1 2=Ω", 1_795_371_907_042)


def named(one: FileFormat) -> str:
    return f"{one.encoding}-{one.channels}"


def file_of(folder: Path, one: FileFormat) -> Path:
    return folder / f"acme~sales.eu~1795371900000~{TAGS.dialog_id}{one.suffix}"


def recorded(folder: Path, one: FileFormat, rate: int = RATE) -> Recording:
    """A call of 3 s: the caller speaks from 0.5 s to 1.5 s, the answerer from 1 s to 2.5 s."""
    a, b = FakeTap(), FakeTap()
    recording = Recording(file_of(folder, one), rate, a=a, b=b, origin=0, file_format=one, tags=TAGS)
    a.put(sine(CALLER, 1, rate), at=rate // 2)
    b.put(sine(ANSWERER, 1.5, rate), at=rate)
    recording.pump()
    recording.finish(3 * rate)
    recording.spool.flush(0)
    return recording


def legs_of(samples: Samples, one: FileFormat) -> tuple[Samples, Samples]:
    return (samples, samples) if one.channels == 1 else (samples[:, 0], samples[:, 1])


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("one", FORMATS, ids=named)
def test_each_speaker_is_heard_in_his_place(tmp_path: Path, one: FileFormat, rate: int) -> None:
    written = recorded(tmp_path, one, rate).commit()
    assert list(tmp_path.iterdir()) == [written.path] == [file_of(tmp_path, one)]
    assert written.sha256 == hashlib.sha256(written.path.read_bytes()).hexdigest()
    assert (written.samples, written.duration_s, written.bytes) == (3 * rate, 3.0, written.path.stat().st_size)
    samples, found_rate = read_wav(written.path)
    assert (found_rate, len(samples), samples.ndim) == (rate, 3 * rate, one.channels)
    a, b = legs_of(samples, one)
    slack = rate / (250 if one.encoding == "opus" else 1000)
    assert abs(tone_onset(a, CALLER, rate, rate // 50) - 0.5 * rate) <= slack
    assert abs(tone_onset(b, ANSWERER, rate, rate // 50) - rate) <= slack
    assert is_tone(a[int(0.55 * rate) : int(0.95 * rate)], CALLER, rate, purity=0.98)
    assert is_tone(b[int(1.6 * rate) : int(2.4 * rate)], ANSWERER, rate, purity=0.98)
    for quiet in (samples[: int(0.45 * rate)], samples[int(2.6 * rate) :]):
        # A-law has no code for 0, but one for 8 and one for -8.
        assert level(quiet) <= (8 if one.encoding == "alaw" else 4)
    both = slice(int(1.1 * rate), int(1.4 * rate))
    if one.channels == 1:
        for tone in (CALLER, ANSWERER):
            assert amplitude_of(a[both], tone, rate) == pytest.approx(8000, rel=0.06)
    else:
        # Nobody is in the other's channel: nothing at all of him, but for what Opus, which codes both as one, leaks.
        for leg, mine, other in ((a, CALLER, ANSWERER), (b, ANSWERER, CALLER)):
            assert amplitude_of(leg[both], mine, rate) == pytest.approx(8000, rel=0.06)
            assert amplitude_of(leg[both], other, rate) < (400 if one.encoding == "opus" else 20)


@pytest.mark.parametrize("one", [FileFormat("pcm16", 2), FileFormat("flac", 1), FileFormat("flac", 2)], ids=named)
def test_what_is_kept_without_loss_is_the_same_to_the_last_bit(tmp_path: Path, one: FileFormat) -> None:
    samples, _ = read_wav(recorded(tmp_path, one).commit().path)
    a, b = np.zeros(3 * RATE, np.int16), np.zeros(3 * RATE, np.int16)
    a[4000:12000], b[8000:20000] = sine(CALLER, 1), sine(ANSWERER, 1.5)
    assert np.array_equal(samples, a + b if one.channels == 1 else np.stack((a, b), axis=1))


@pytest.mark.parametrize("channels", [1, 2])
def test_two_voices_at_full_scale_do_not_clip(tmp_path: Path, channels: int) -> None:
    voices = [sine(hz, 1, amplitude=32767) for hz in (CALLER, ANSWERER)]
    taps = FakeTap(), FakeTap()
    one = FileFormat(channels=channels)
    recording = Recording(file_of(tmp_path, one), RATE, a=taps[0], b=taps[1], origin=0, file_format=one)
    for tap, voice in zip(taps, voices, strict=True):
        tap.put(voice, at=0)
    recording.finish(RATE)
    samples, _ = read_wav(recording.commit().path)
    if channels == 2:
        assert np.array_equal(samples, np.stack(voices, axis=1))
        return
    sums = voices[0].astype(int) + voices[1]
    assert np.abs(sums).max() > 60_000
    assert 32_000 < np.abs(samples.astype(int)).max() < 32_767, "bent, not cut off"
    assert (np.sign(samples) == np.sign(sums)).all(), "nor wrapped"
    quiet = np.abs(sums) <= 16384
    assert np.array_equal(samples[quiet], sums[quiet])
    for hz in (CALLER, ANSWERER):
        assert amplitude_of(samples, hz) > 16_000


@pytest.mark.parametrize(("encoding", "subtype"), [("ulaw", "ULAW"), ("alaw", "ALAW")])
def test_g711_that_came_in_is_kept_bit_for_bit_with_a_channel_a_leg(
    tmp_path: Path, encoding: str, subtype: str
) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(range(256)) * 40)
    heard, _ = soundfile.read(raw, dtype="int16", samplerate=RATE, channels=1, format="RAW", subtype=subtype)
    one = FileFormat(encoding, 2)  # type: ignore[arg-type]
    part = PartFile.create(file_of(tmp_path, one), RATE, one)
    part.write(np.stack((heard, heard[::-1]), axis=1))
    content = part.commit().path.read_bytes()[HEADER_BYTES:]
    # Both codes of 0 are the same sample.
    zero = bytes.maketrans(b"\x7f", b"\xff") if encoding == "ulaw" else None
    assert content[::2] == raw.read_bytes().translate(zero)
    assert content[1::2] == raw.read_bytes()[::-1].translate(zero)


def test_a_minute_of_each_has_its_size(tmp_path: Path) -> None:
    seconds = 12
    noise = np.random.default_rng(1).normal(0, 1, (seconds + 1) * RATE)
    speech = np.convolve(noise, np.hanning(40), "valid")[: seconds * RATE]  # little above 400 Hz
    speech *= 2500 / speech.std() * (0.5 + 0.5 * np.sin(np.arange(len(speech)) / 1600))
    mono = speech.astype(np.int16)
    minute = {}
    for one in FORMATS:
        part = PartFile.create(file_of(tmp_path, one), RATE, one)
        part.write(mono if one.channels == 1 else np.stack((mono, mono[::-1]), axis=1))
        written = part.commit()
        minute[named(one)] = (written.bytes - HEADER_BYTES) * 60 / seconds
        written.path.unlink()
    assert minute["pcm16-1"] == minute["ulaw-2"] == minute["alaw-2"] == 960_000
    assert minute["pcm16-2"] == 1_920_000
    assert minute["ulaw-1"] == minute["alaw-1"] == 480_000
    assert minute["flac-1"] < 800_000
    assert minute["flac-2"] < 1_600_000
    assert 130_000 < minute["opus-1"] < 230_000  # 24 kbit/s are 180,000
    assert 260_000 < minute["opus-2"] < 460_000


@pytest.mark.parametrize("one", FORMATS, ids=named)
def test_the_file_says_whose_it_is(tmp_path: Path, one: FileFormat) -> None:
    path = recorded(tmp_path, one).commit().path
    comment = f"calling=302105550100 called=1%202%3DΩ encoding={one.encoding}"
    with av.open(path) as container:  # as FFmpeg reads it
        said = container.metadata | container.streams[0].metadata
        codec = container.streams.audio[0].codec_context
        assert (codec.codec.canonical_name, codec.channels) == (one.codec, one.channels)
    said = {key.lower(): value for key, value in said.items()}
    assert (said["title"], said["date"], said["comment"]) == (TAGS.dialog_id, "2026-11-22T18:25:07.042Z", comment)
    assert said["software" if one.encoding == "flac" else "encoder"].startswith("recorder ")
    if shutil.which("soxi") and one.encoding != "opus":
        assert subprocess.check_output(["soxi", "-s", path], text=True).strip() == str(3 * RATE)
        assert subprocess.check_output(["soxi", "-c", path], text=True).strip() == str(one.channels)


@pytest.mark.parametrize("one", FORMATS, ids=named)
@pytest.mark.parametrize("length", [0, 1, 7, 161])
def test_the_shortest_calls_have_files_too(tmp_path: Path, one: FileFormat, length: int) -> None:
    part = PartFile.create(file_of(tmp_path, one), RATE, one)
    part.write(np.full((length, one.channels), 1000, np.int16))
    written = part.commit()
    frames = soundfile.info(written.path).frames
    assert frames == written.samples == (max(1, length) if one.encoding in ("flac", "opus") else length)
    if one.container == "wav":
        assert written.bytes % 2 == 0, "a chunk of an odd length is padded"


@pytest.mark.parametrize("one", FORMATS, ids=named)
def test_the_name_must_fit_the_format(tmp_path: Path, one: FileFormat) -> None:
    with pytest.raises(StorageError, match="the name of a recording"):
        PartFile.create(tmp_path / ("x.flac" if one.encoding != "flac" else "x.wav"), RATE, one)
    assert not list(tmp_path.iterdir())


# What a crash leaves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", FORMATS, ids=named)
def test_a_part_whose_process_died_becomes_what_it_was_to_be(tmp_path: Path, one: FileFormat) -> None:
    recording = recorded(tmp_path, one)
    part = part_path(recording.path)
    content = part.read_bytes()
    recording.spool.abandon()
    part.write_bytes(content + b"\x01")
    written = repair(part)
    assert list(tmp_path.iterdir()) == [written.path] == [recording.path]
    assert (written.file_format, written.samples, written.sample_rate_hz) == (one, 3 * RATE, RATE)
    assert (written.tags.calling, written.tags.called) == (TAGS.calling, TAGS.called)
    assert (written.tags.dialog_id, written.tags.start_ms) == (TAGS.dialog_id, TAGS.start_ms)
    a, b = legs_of(read_wav(written.path)[0], one)
    assert is_tone(a[4400:7600], CALLER)
    assert is_tone(b[12800:19200], ANSWERER)


def killed(recording: Recording, last: int) -> bool:
    """Commit in a process that dies, as by kill -9, at its so-manieth call that changes something on the disk.

    Returns whether it died; if not, there were no so many.
    """
    child = os.fork()
    if child == 0:
        calls = iter(range(1, last))

        def dying(really: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                if next(calls, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return really(*args, **kwargs)

            return call

        try:
            for name in ("open", "pwrite", "ftruncate", "fsync", "link", "unlink"):
                setattr(os, name, dying(getattr(os, name)))
            recording.commit()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status == signal.SIGKILL


@pytest.mark.parametrize("one", [FileFormat(), FileFormat("ulaw", 2), FileFormat("flac")], ids=named)
def test_killed_at_any_step_of_its_commit_a_recording_is_there_once_and_whole(tmp_path: Path, one: FileFormat) -> None:
    seen, last = set(), 0
    while True:
        last += 1
        folder = tmp_path / str(last)
        folder.mkdir()
        recording = recorded(folder, one)
        died = killed(recording, last)
        recording.spool.abandon()
        if not died:
            break
        final = recording.path
        left = frozenset(path.suffix for path in folder.iterdir())
        seen.add(left)
        assert part_path(final).exists() or final.exists(), f"step {last}"
        if final.exists():
            assert soundfile.info(final).frames == 3 * RATE, f"step {last}: what has the final name is whole"
        if part_path(final).exists():
            repair(part_path(final))
        for leftover in folder.glob("*.tmp"):
            assert final.exists(), f"step {last}"
            leftover.unlink()  # as `reindex` does
        assert list(folder.iterdir()) == [final], f"step {last}"
        assert is_tone(legs_of(read_wav(final)[0], one)[0][4400:7600], CALLER), f"step {last}"
    wanted = {frozenset({".part"}), frozenset({final.suffix})}
    if one.encoding != "pcm16":
        wanted |= {frozenset({".part", ".tmp"}), frozenset({".part", ".tmp", final.suffix})}
    assert wanted <= seen


@pytest.mark.parametrize("one", [FileFormat("flac"), FileFormat("ulaw")], ids=named)
def test_a_final_file_without_its_temporary_name_is_known_as_made(tmp_path: Path, one: FileFormat) -> None:
    recording = recorded(tmp_path, one)
    content = part_path(recording.path).read_bytes()
    first = recording.commit()
    part_path(recording.path).write_bytes(content)  # as on a file system that brought back what was unlinked
    assert repair(part_path(recording.path)) == first
    assert list(tmp_path.iterdir()) == [recording.path]


@pytest.mark.parametrize("one", ENCODED, ids=named)
def test_another_file_of_the_final_name_is_kept(tmp_path: Path, one: FileFormat) -> None:
    recording = recorded(tmp_path, one)
    recording.path.write_bytes(b"audio")
    with pytest.raises(StorageError, match="is there already and was kept"):
        recording.commit()
    assert recording.path.read_bytes() == b"audio"
    assert sorted(path.suffix for path in tmp_path.iterdir()) == sorted([".part", one.suffix])
    recording.path.unlink()
    assert recording.commit().samples == 3 * RATE


@pytest.mark.parametrize("one", ENCODED, ids=named)
def test_a_full_disk_at_the_end_keeps_the_part_and_its_encoding_is_made_later(tmp_path: Path, one: FileFormat) -> None:
    recording = recorded(tmp_path, one)
    with no_file_beyond(700), pytest.raises(StorageError, match="File too large"):
        recording.commit()
    assert list(tmp_path.iterdir()) == [part_path(recording.path)]
    assert recording.commit().samples == 3 * RATE
    assert list(tmp_path.iterdir()) == [recording.path]


def test_a_file_system_without_hard_links_does_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    recording = recorded(tmp_path, FileFormat("flac"))
    recording.path.touch()  # reserved by a process that died
    assert recording.commit().samples == 3 * RATE
    assert list(tmp_path.iterdir()) == [recording.path]


class CountingStore(PlainStore):
    written = 0
    synced_at: int | None = None

    def write_at(self, offset: int, content: bytes) -> None:
        super().write_at(offset, content)
        self.written += 1

    def sync(self) -> None:
        super().sync()
        self.synced_at = self.written


class CountingStorage(PlainStorage):
    def __init__(self) -> None:
        self.stores: list[CountingStore] = []

    def create(self, descriptor: int) -> CountingStore:
        self.stores.append(CountingStore(descriptor))
        return self.stores[-1]


@pytest.mark.parametrize("one", ENCODED, ids=named)
def test_the_final_file_is_made_through_the_storage_and_synced_after_its_last_write(
    tmp_path: Path, one: FileFormat
) -> None:
    storage = CountingStorage()
    part = PartFile.create(file_of(tmp_path, one), RATE, one, storage=storage)
    part.write(np.zeros((RATE, one.channels), np.int16))
    part.commit()
    assert len(storage.stores) == 2
    assert storage.stores[1].synced_at == storage.stores[1].written > 0


@pytest.mark.parametrize("encoding", ["ulaw", "flac"])
def test_a_call_of_an_hour_is_not_read_into_memory(tmp_path: Path, encoding: str) -> None:
    one = FileFormat(encoding)  # type: ignore[arg-type]
    part = PartFile.create(file_of(tmp_path, one), RATE, one)
    part.skip(3600 * RATE)
    tracemalloc.start()
    try:
        part.commit()
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
