from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import struct
import subprocess
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.byte_store import PlainStore
from recorder.errors import StorageError
from recorder.file_format import FileFormat
from recorder.media.part_file import PartFile, _bring_up_to_date, part_path, repair
from recorder.media.wav_header import HEADER_BYTES, OLD_HEADER_BYTES, WavHeader
from recorder.tags import Tags
from tests.media.disk import fill, no_file_beyond, small_disk
from tests.tones import is_tone, read_wav, sine

TONE = sine(440, 1)
TAGS = Tags("D" * 32, "302105550100", "12 34", 1_795_371_907_042, "pcm16")


def dead_part(path: Path, seconds: float = 1) -> Path:
    """A `.part` as a process leaves it that is killed."""
    part = PartFile.create(path, 8000)
    part.write(sine(440, seconds))
    content = part.path.read_bytes()
    part.abandon()
    part.path.write_bytes(content)
    return part.path


def test_a_committed_file_is_the_samples_under_the_final_name(path: Path) -> None:
    part = PartFile.create(path, 8000)
    for start in range(0, 8000, 1600):
        part.write(TONE[start : start + 1600])
    assert part.path.name == path.name + ".part"
    written = part.commit()
    assert (written.path, written.samples, written.duration_s, written.bytes) == (path, 8000, 1.0, HEADER_BYTES + 16000)
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    samples, rate = read_wav(path)
    assert rate == 8000
    assert np.array_equal(samples, TONE)
    assert list(path.parent.iterdir()) == [path]
    assert part.commit() == written


def test_a_committed_file_is_16_bit_pcm_wav_of_its_rate_and_not_for_everyone(path: Path) -> None:
    PartFile.create(path, 16000).commit()
    info = soundfile.info(path)
    assert (info.format, info.subtype, info.samplerate, info.channels, info.frames) == ("WAV", "PCM_16", 16000, 1, 0)
    assert not stat.S_IMODE(path.stat().st_mode) & 0o007


def test_two_channels_stay_apart(path: Path) -> None:
    part = PartFile.create(path, 8000, FileFormat(channels=2))
    part.write(np.stack((TONE, sine(1000, 1)), axis=1))
    part.skip(10)
    assert part.commit().samples == 8010
    samples, _ = read_wav(path)
    assert is_tone(samples[:8000, 0], 440)
    assert is_tone(samples[:8000, 1], 1000)


def test_every_write_is_in_the_kernel_when_it_returns(path: Path) -> None:
    part = PartFile.create(path, 8000)
    assert part.path.stat().st_size == HEADER_BYTES
    for count in range(1, 20):
        part.write(TONE[:3])
        content = part.path.read_bytes()
        assert content[HEADER_BYTES:] == TONE[:3].tobytes() * count
    part.abandon()


def test_an_unfinished_file_is_never_overwritten(path: Path) -> None:
    part_path(path).write_bytes(b"audio")
    with pytest.raises(StorageError, match=r"\.wav\.part: is there already.*recorder recover"):
        PartFile.create(path, 8000)
    assert part_path(path).read_bytes() == b"audio"


def test_a_finished_file_is_never_overwritten_at_the_start(path: Path) -> None:
    path.write_bytes(b"audio")
    with pytest.raises(StorageError, match=r"\.wav: is there already"):
        PartFile.create(path, 8000)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == b"audio"


def test_a_finished_file_is_never_overwritten_at_the_end(path: Path) -> None:
    part = PartFile.create(path, 8000)
    part.write(TONE)
    path.write_bytes(b"audio")
    with pytest.raises(StorageError, match="is there already and was kept"):
        part.commit()
    assert path.read_bytes() == b"audio"
    path.unlink()
    assert part.commit().samples == 8000


def test_the_name_must_be_a_wav_files(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"ends in \.wav"):
        PartFile.create(tmp_path / "x.mp3", 8000)
    with pytest.raises(StorageError, match=r"ends in \.wav\.part"):
        repair(tmp_path / "x.part")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be made: No such file or directory; check that its folder"):
        PartFile.create(tmp_path / "gone" / "x.wav", 8000)


def test_a_file_system_without_hard_links_does_not_overwrite_either(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    part = PartFile.create(path, 8000)
    part.write(TONE)
    path.write_bytes(b"audio")
    with pytest.raises(StorageError, match="is there already and was kept"):
        part.commit()
    assert path.read_bytes() == b"audio"
    path.unlink()
    part.commit()
    assert np.array_equal(read_wav(path)[0], TONE)
    assert list(path.parent.iterdir()) == [path]


def test_a_commit_that_was_interrupted_is_taken_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = PartFile.create(path, 8000)
    part.write(TONE)
    really = os.fsync

    def fails(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StorageError, match="cannot be made durable: Input/output error"):
        part.commit()
    monkeypatch.undo()
    assert part.commit().samples == 8000
    assert list(path.parent.iterdir()) == [path]


def test_what_is_skipped_is_silence(path: Path) -> None:
    part = PartFile.create(path, 8000)
    part.write(TONE[:800])
    part.skip(1600)
    part.write(TONE[:800])
    part.skip(400)
    assert part.samples == 3600
    part.commit()
    samples, _ = read_wav(path)
    expected = np.zeros(3600, np.int16)
    expected[:800] = expected[2400:3200] = TONE[:800]
    assert np.array_equal(samples, expected)


@pytest.mark.parametrize("length", [0, 500, 8000, 12345])
def test_the_length_can_be_set(path: Path, length: int) -> None:
    part = PartFile.create(path, 8000)
    part.write(TONE)
    part.set_length(length)
    assert part.commit().samples == length
    samples, _ = read_wav(path)
    assert len(samples) == length
    assert np.array_equal(samples[:8000], TONE[:length])
    assert not samples[8000:].any()


def test_writing_goes_on_where_the_length_was_set(path: Path) -> None:
    part = PartFile.create(path, 8000)
    part.write(TONE)
    part.set_length(100)
    part.write(TONE[:50])
    part.commit()
    assert np.array_equal(read_wav(path)[0], np.concatenate((TONE[:100], TONE[:50])))


def test_what_is_erased_is_silence_and_nothing_else_is(path: Path) -> None:
    part = PartFile.create(path, 8000)
    part.write(TONE)
    part.erase(-5, 10)
    part.erase(100, 300)
    part.erase(7990, 9000)
    part.write(TONE[:100])
    part.commit()
    expected = np.concatenate((TONE, TONE[:100]))
    expected[:10] = expected[100:300] = expected[7990:8000] = 0
    assert np.array_equal(read_wav(path)[0], expected)


@pytest.mark.parametrize("odd", [0, 1])
def test_a_full_disk_keeps_what_was_written_and_can_be_written_again_later(path: Path, odd: int) -> None:
    part = PartFile.create(path, 8000)
    part.write(TONE[:1000])
    with no_file_beyond(HEADER_BYTES + 3000 + odd):
        with pytest.raises(StorageError, match=r"cannot be written: File too large"):
            part.write(TONE[1000:2000])
        assert part.samples == 1500
        with pytest.raises(StorageError):
            part.write(TONE[1500:2000])
    part.write(TONE[1500:2000])
    part.commit()
    assert np.array_equal(read_wav(path)[0], TONE[:2000])


@pytest.mark.parametrize("odd", [0, 1])
def test_a_file_on_a_full_disk_can_be_committed(path: Path, odd: int) -> None:
    part = PartFile.create(path, 8000)
    with no_file_beyond(HEADER_BYTES + 3000 + odd):
        with pytest.raises(StorageError):
            part.write(TONE)
        assert part.commit().samples == 1500
    assert np.array_equal(read_wav(path)[0], TONE[:1500])


def test_a_real_full_disk(tmp_path: Path) -> None:
    try:
        with small_disk(tmp_path / "disk", 64) as disk:
            path = disk / "x.wav"
            part = PartFile.create(path, 8000)
            part.write(TONE)
            fill(disk / "ballast")
            with pytest.raises(StorageError, match="No space left on device"):
                part.write(TONE)
            kept = part.samples
            assert kept >= 8000
            part.skip(800)
            (disk / "ballast").unlink()
            part.write(TONE[:80])
            part.commit()
            samples, _ = read_wav(path)
            assert np.array_equal(samples[:8000], TONE)
            assert not samples[kept : kept + 800].any()
            assert np.array_equal(samples[kept + 800 :], TONE[:80])
    except PermissionError as error:
        pytest.skip(str(error))


def test_no_file_can_be_begun_on_a_full_disk_and_none_is_left(path: Path) -> None:
    with no_file_beyond(20), pytest.raises(StorageError, match="cannot be begun: File too large"):
        PartFile.create(path, 8000)
    assert list(path.parent.iterdir()) == []
    PartFile.create(path, 8000).commit()


@pytest.mark.parametrize("channels", [1, 2])
def test_past_4_gib_a_wav_file_is_an_rf64_and_whole(path: Path, channels: int) -> None:
    count = ((1 << 32) + 1000) // 2 // channels  # almost all of it a hole
    tone = TONE if channels == 1 else np.stack((TONE, sine(1000, 1)), axis=1)
    part = PartFile.create(path, 8000, FileFormat(channels=channels), tags=TAGS)
    part.skip(count - len(tone))
    part.write(tone)
    part.abandon()
    # The checksum of 4 GiB takes seconds; what is looked at here is done before.
    with part.path.open("r+b") as file:
        _bring_up_to_date(PlainStore(os.dup(file.fileno())), WavHeader(8000, channels, tags=TAGS))
    with part.path.open("rb") as file:
        content = file.read(HEADER_BYTES)
    assert (content[:4], content[12:16]) == (b"RF64", b"ds64")
    assert WavHeader.unpack(content) == WavHeader(8000, channels, 0xFFFFFFFF, tags=TAGS)
    with soundfile.SoundFile(part.path) as sound:
        assert (sound.format, sound.frames, sound.channels, sound.title) == ("RF64", count, channels, TAGS.dialog_id)
        sound.seek(count - len(tone))
        assert np.array_equal(sound.read(dtype="int16"), tone)
    with av.open(part.path) as container:
        assert container.streams.audio[0].duration == count
        assert container.metadata["title"] == TAGS.dialog_id


def test_the_last_sample_before_4_gib_needs_no_rf64() -> None:
    most = (1 << 32) - HEADER_BYTES + 8 - 2
    assert WavHeader(8000, 1, most).pack()[:4] == b"RIFF"
    assert WavHeader(8000, 1, most + 2).pack()[:4] == b"RF64"
    assert WavHeader.unpack(WavHeader(8000, 1, most).pack()).data_bytes == most


def test_the_file_says_whose_it_is_while_it_is_written_and_after(path: Path) -> None:
    part = PartFile.create(path, 8000, tags=TAGS)
    part.write(TONE)
    assert WavHeader.unpack(part.path.read_bytes()).tags == TAGS
    assert part.commit().tags == TAGS
    with soundfile.SoundFile(path) as sound:
        assert (sound.title, sound.date) == (TAGS.dialog_id, "2026-11-22T18:25:07.042Z")
        assert sound.comment == "calling=302105550100 called=12%2034 encoding=pcm16"
        assert sound.software.startswith("recorder ")
    with av.open(path) as container:  # as FFmpeg reads it
        assert container.metadata["title"] == TAGS.dialog_id
        assert container.metadata["date"] == "2026-11-22T18:25:07.042Z"
        assert container.metadata["comment"] == "calling=302105550100 called=12%2034 encoding=pcm16"
    assert subprocess.check_output(["soxi", "-s", path], text=True).strip() == "8000"
    with wave.open(str(path)) as plain:
        assert (plain.getnframes(), plain.getframerate(), plain.getnchannels()) == (8000, 8000, 1)
        assert plain.readframes(8000) == TONE.tobytes()


@settings(deadline=None)
@given(calling=st.text(), called=st.text(max_size=40), start_ms=st.none() | st.integers(0, 10**14))
def test_any_party_can_stand_in_the_file(calling: str, called: str, start_ms: int | None) -> None:
    tags = Tags("D" * 64, calling, called, start_ms, "ulaw")
    found = WavHeader.unpack(WavHeader(8000, 2, 10, tags=tags).pack()).tags
    assert (found.dialog_id, found.start_ms, found.encoding) == (tags.dialog_id, start_ms, "ulaw")
    assert calling.encode(errors="replace").decode().startswith(found.calling)
    assert found.calling or not calling
    assert len(WavHeader(8000, 2, 10, tags=tags).pack()) == HEADER_BYTES


def test_a_minute_has_under_a_megabyte(path: Path) -> None:
    part = PartFile.create(path, 8000)
    part.write(sine(440, 60))
    assert part.commit().bytes == 960_000 + HEADER_BYTES


class Sealed(PlainStore):
    """A layout of its own: 64 bytes of its own first, and every byte is turned."""

    @property
    def size(self) -> int:
        return super().size - 64

    def read_at(self, offset: int, count: int) -> bytes:
        return bytes(255 - byte for byte in super().read_at(offset + 64, count))

    def write_at(self, offset: int, content: bytes) -> None:
        super().write_at(self.size + 64, b"\xff" * max(0, offset - self.size))
        super().write_at(offset + 64, bytes(255 - byte for byte in content))

    def truncate(self, size: int) -> None:
        if size > self.size:
            self.write_at(size, b"")
        super().truncate(size + 64)


class SealedStorage:
    def create(self, descriptor: int) -> Sealed:
        os.write(descriptor, b"S" * 64)
        return Sealed(descriptor)

    def open(self, descriptor: int, *, finished: bool = True) -> Sealed:  # noqa: ARG002
        assert os.pread(descriptor, 64, 0) == b"S" * 64
        return Sealed(descriptor)


@pytest.mark.parametrize("dies", [False, True])
def test_a_file_is_written_and_repaired_through_whatever_its_storage_is(path: Path, dies: bool) -> None:
    storage = SealedStorage()
    part = PartFile.create(path, 8000, tags=TAGS, storage=storage)
    part.write(TONE[:800])
    part.skip(100)
    part.write(TONE[:900])
    part.erase(0, 10)
    part.set_length(1600)
    if dies:
        part.abandon()
        written = repair(part.path, storage=storage)
    else:
        written = part.commit()
    assert (written.samples, written.bytes, written.tags) == (1600, 64 + HEADER_BYTES + 3200, TAGS)
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    content = Sealed(os.open(path, os.O_RDONLY)).read_at(0, 1 << 20)
    expected = np.zeros(1600, np.int16)
    expected[:800], expected[900:] = TONE[:800], TONE[:700]
    expected[:10] = 0
    samples, _ = soundfile.read(io.BytesIO(content), dtype="int16")
    assert np.array_equal(samples, expected)


def test_a_part_whose_process_died_becomes_a_recording(path: Path) -> None:
    part = dead_part(path)
    assert WavHeader.unpack(part.read_bytes()).data_bytes == 0
    written = repair(part)
    assert (written.path, written.samples, written.duration_s) == (path, 8000, 1.0)
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert np.array_equal(read_wav(path)[0], TONE)
    assert list(path.parent.iterdir()) == [path]


@settings(deadline=None)
@given(length=st.integers(0, HEADER_BYTES + 400), rate=st.sampled_from([8000, 16000]), old=st.booleans())
def test_a_part_cut_anywhere_becomes_a_recording(
    tmp_path_factory: pytest.TempPathFactory, length: int, rate: int, old: bool
) -> None:
    path = tmp_path_factory.mktemp("cut") / "x.wav"
    header = WavHeader(rate, 1, header_bytes=OLD_HEADER_BYTES) if old else WavHeader(rate, 1, tags=TAGS)
    content = header.pack() + TONE[:200].tobytes()
    part_path(path).write_bytes(content[:length])
    written = repair(part_path(path), rate)
    samples, found_rate = read_wav(path)
    kept = max(0, min(length, len(content)) - header.header_bytes) // 2
    assert (found_rate, len(samples)) == (rate, written.samples) == (rate, kept)
    assert np.array_equal(samples, TONE[: len(samples)])


def test_a_part_of_an_earlier_version_becomes_a_recording(path: Path) -> None:
    fields = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", 0)
    part_path(path).write_bytes(fields + TONE.tobytes())
    assert repair(part_path(path)).samples == 8000
    assert np.array_equal(read_wav(path)[0], TONE)
    with wave.open(str(path)) as plain:
        assert plain.getnframes() == 8000


def test_a_header_that_never_reached_the_disk_is_made_anew(path: Path) -> None:
    part_path(path).write_bytes(bytes(HEADER_BYTES) + TONE.tobytes())
    assert repair(part_path(path), 16000).duration_s == 0.5
    assert np.array_equal(read_wav(path)[0], TONE)


@pytest.mark.parametrize("content", [b"something else" * 10, b"short"])
def test_a_file_that_is_no_recording_is_left_alone(path: Path, content: bytes) -> None:
    part_path(path).write_bytes(content)
    with pytest.raises(StorageError, match="move it out of the way"):
        repair(part_path(path))
    assert part_path(path).read_bytes() == content


def test_repair_never_overwrites(path: Path) -> None:
    part = dead_part(path)
    path.write_bytes(b"audio")
    with pytest.raises(StorageError, match="is there already and was kept"):
        repair(part)
    assert path.read_bytes() == b"audio"
    assert part.exists()


def test_a_process_that_died_between_its_two_names_is_taken_up(path: Path) -> None:
    part = dead_part(path)
    path.hardlink_to(part)
    assert repair(part).samples == 8000
    assert list(path.parent.iterdir()) == [path]


def test_a_part_that_is_being_written_is_not_repaired(path: Path) -> None:
    part = PartFile.create(path, 8000)
    part.write(TONE)
    with pytest.raises(StorageError, match="a running recorder is writing it"):
        repair(part.path)
    assert part.commit().samples == 8000


def test_a_part_that_is_gone_is_told(path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be opened: No such file"):
        repair(part_path(path))
