from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.errors import StorageError
from recorder.media.part_file import PartFile, part_path, repair
from recorder.media.wav_header import HEADER_BYTES, WavHeader
from tests.media.disk import fill, no_file_beyond, small_disk
from tests.tones import is_tone, read_wav, sine

TONE = sine(440, 1)


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
    assert (written.path, written.samples, written.duration_s, written.bytes) == (path, 8000, 1.0, 16044)
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
    part = PartFile.create(path, 8000, channels=2)
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


def test_a_wav_file_ends_at_4_gib_and_is_whole_then(path: Path) -> None:
    most = ((1 << 32) - HEADER_BYTES) // 2
    part = PartFile.create(path, 8000)
    part.skip(most - 8000)
    part.write(TONE)
    with pytest.raises(StorageError, match="4 GiB"):
        part.write(TONE)
    part.close()
    info = soundfile.info(part.path)
    assert info.frames == most
    with soundfile.SoundFile(part.path) as file:
        file.seek(most - 8000)
        assert np.array_equal(file.read(dtype="int16"), TONE)
    part.abandon()


def test_a_part_whose_process_died_becomes_a_recording(path: Path) -> None:
    part = dead_part(path)
    assert WavHeader.unpack(part.read_bytes()).data_bytes == 0
    written = repair(part)
    assert (written.path, written.samples, written.duration_s) == (path, 8000, 1.0)
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert np.array_equal(read_wav(path)[0], TONE)
    assert list(path.parent.iterdir()) == [path]


@settings(deadline=None)
@given(length=st.integers(0, 400), rate=st.sampled_from([8000, 16000]))
def test_a_part_cut_anywhere_becomes_a_recording(
    tmp_path_factory: pytest.TempPathFactory, length: int, rate: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "x.wav"
    content = WavHeader(rate, 1, 0).pack() + TONE[:200].tobytes()
    part_path(path).write_bytes(content[:length])
    written = repair(part_path(path), rate)
    samples, found_rate = read_wav(path)
    assert (found_rate, len(samples)) == (rate, written.samples) == (rate, max(0, length - HEADER_BYTES) // 2)
    assert np.array_equal(samples, TONE[: len(samples)])


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
