"""The file of a recording: `<name>.wav.part` while it grows, `<name>.wav` once it is whole and durable.

No file is ever replaced, neither at the start nor at the end. Every write is in the kernel when it returns (libsndfile
keeps no buffer for PCM), so a process that dies loses nothing that was written; only the sizes in the header are stale
then, which `repair` sets right.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import soundfile

from recorder.errors import StorageError
from recorder.media.source import Samples
from recorder.media.wav_header import HEADER_BYTES, MAX_FILE_BYTES, WavHeader

PART_SUFFIX = ".part"
_WAV_SUFFIX = ".wav"
_MODE = 0o640  # what people said is not for everyone to read
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_ERASE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A finished recording: durable, under its final name. `samples` are of one channel; `sha256` is of the file."""

    path: Path
    samples: int
    duration_s: float
    bytes: int
    sha256: str


class PartFile:
    """A WAV file (16-bit PCM) that is being written. Made by `create`.

    One thread at a time: the writer's, then the one that commits. Every method but `abandon` raises StorageError when
    the disk refuses; the file can be used further, and committed, after that.
    """

    def __init__(self, final_path: Path, descriptor: int, header: WavHeader) -> None:
        self.final_path = final_path
        self.path = part_path(final_path)
        self._descriptor = descriptor
        self._header = header
        self._samples = 0
        self._moved = False  # libsndfile's position is not ours any more
        self._written: WrittenFile | None = None
        self._file = soundfile.SoundFile(
            descriptor,
            "w",
            samplerate=header.rate_hz,
            channels=header.channels,
            subtype="PCM_16",
            format="WAV",
            closefd=False,  # we fsync after libsndfile has closed
        )

    @classmethod
    def create(cls, final_path: Path, clock_rate_hz: int, channels: int = 1) -> PartFile:
        """Open `<final_path>.part` for a recording that will become `final_path` (`….wav`).

        Raises:
            StorageError: either file is there already, or the folder cannot be written.
        """
        part = part_path(final_path)
        if os.path.lexists(final_path):
            raise StorageError(f"{final_path}: is there already, and a recording never replaces another")
        try:
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        except FileExistsError:
            raise StorageError(
                f"{part}: is there already; a recording never replaces another, `recorder recover` makes it a file"
            ) from None
        except OSError as error:
            raise _refused(part, "cannot be made", error) from error
        try:
            _lock(part, descriptor)
            header = WavHeader(clock_rate_hz, channels, 0)
            # Before libsndfile writes the same, because it does not report what hinders it.
            _write_all(descriptor, header.pack(), 0)
            return cls(final_path, descriptor, header)
        except (OSError, StorageError, soundfile.SoundFileError) as error:
            part.unlink(missing_ok=True)
            os.close(descriptor)
            raise _refused(part, "cannot be begun", error) from error

    @property
    def samples(self) -> int:
        """Length so far, of one channel: the position that the next write starts at."""
        return self._samples

    def write(self, samples: Samples) -> None:
        """Append samples (several channels: interleaved, or a row a sample).

        When it raises, `self.samples` tells how many were kept.
        """
        count = samples.size // self._header.channels
        if self._offset(self._samples + count) > MAX_FILE_BYTES:
            raise StorageError(f"{self.path}: is full: a WAV file holds 4 GiB")
        try:
            if self._moved:
                self._file.seek(self._samples)
                self._moved = False
            self._file.buffer_write(samples, "int16")
        except (soundfile.SoundFileError, AssertionError):  # soundfile asserts that all was written
            self._moved = True
            self._complete(samples, os.lseek(self._descriptor, 0, os.SEEK_CUR))
        self._samples += count

    def skip(self, count: int) -> None:
        """Go on `count` samples later. What is between reads as silence and takes no room on most file systems."""
        self._samples += count
        self._moved = True

    def erase(self, start: int, stop: int) -> None:
        """Overwrite samples [start, stop) with silence, as far as the file has them."""
        end = min(self._offset(stop), os.fstat(self._descriptor).st_size)
        offset = self._offset(max(0, start))
        try:
            while offset < end:
                step = min(end - offset, _ERASE_BYTES)
                _write_all(self._descriptor, bytes(step), offset)
                offset += step
        except OSError as error:
            raise _refused(self.path, "cannot be erased in part", error) from error

    def set_length(self, samples: int) -> None:
        """Cut the file, or extend it with silence, to exactly so many samples of one channel."""
        if self._offset(samples) > MAX_FILE_BYTES:
            raise StorageError(f"{self.path}: cannot be {samples} samples long: a WAV file holds 4 GiB")
        self._moved = True
        try:
            os.ftruncate(self._descriptor, self._offset(samples))
        except OSError as error:
            raise _refused(self.path, "cannot be brought to its length", error) from error
        self._samples = samples

    def close(self) -> None:
        """Bring the file to its length and its header up to date. Slow: libsndfile syncs as it closes. Idempotent."""
        if self._file.closed:
            return
        self.set_length(self._samples)
        with suppress(soundfile.SoundFileError):  # the header is looked at again below
            self._file.close()
        try:
            _set_sizes(self._descriptor, self._header)
        except OSError as error:
            raise _refused(self.path, "cannot be closed", error) from error

    def commit(self) -> WrittenFile:
        """Make the file durable under its final name, and let go of it. May be called again after it raised.

        Raises:
            StorageError: the disk refused, or the final name has been taken meanwhile. The `.part` is still there.
        """
        if self._written is None:
            self.close()
            self._written = _make_final(self._descriptor, self._header, self.path, self.final_path)
            os.close(self._descriptor)
        return self._written

    def abandon(self) -> None:
        """Let go of the file as it is. It stays a `.part`, and `repair` can make a recording of it."""
        if self._written is None:
            with suppress(soundfile.SoundFileError):
                self._file.close()
            with suppress(OSError):
                os.close(self._descriptor)

    def _offset(self, samples: int) -> int:
        return HEADER_BYTES + samples * self._header.frame_bytes

    def _complete(self, samples: Samples, reached: int) -> None:
        """Write by hand what libsndfile left of a block: either it works now, or the error has a name."""
        start = self._offset(self._samples)
        content = samples.tobytes()
        done = min(max(reached - start, 0), len(content))
        try:
            while done < len(content):
                done += os.pwrite(self._descriptor, content[done:], start + done)
        except OSError as error:
            self._samples += done // self._header.frame_bytes
            raise _refused(self.path, "cannot be written", error) from error


def repair(part: Path, clock_rate_hz: int = 8000) -> WrittenFile:
    """Make a recording of a `.part` whose process died: true sizes in its header, then as `PartFile.commit` does.

    Args:
        part: `<name>.wav.part`.
        clock_rate_hz: what to assume when not even the header reached the disk.

    Raises:
        StorageError: a living process is writing it, it is no recording, or its final name is another file's.
    """
    final = final_path(part)
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(part, "cannot be opened", error) from error
    try:
        _lock(part, descriptor)
        header = _read_header(descriptor, clock_rate_hz)
        _set_sizes(descriptor, header)
        return _make_final(descriptor, header, part, final)
    except ValueError as error:
        raise StorageError(f"{part}: {error}; move it out of the way") from None
    except OSError as error:
        raise _refused(part, "cannot be repaired", error) from error
    finally:
        os.close(descriptor)


def part_path(final_path: Path) -> Path:
    """The name of the unfinished file of the recording at `final_path`. Raises StorageError unless it is `….wav`."""
    if final_path.suffix != _WAV_SUFFIX:
        raise StorageError(f"{final_path}: the name of a recording ends in {_WAV_SUFFIX}")
    return final_path.with_name(final_path.name + PART_SUFFIX)


def final_path(part: Path) -> Path:
    """The name that an unfinished file will have. Raises StorageError unless it is `….wav.part`."""
    if not part.name.endswith(_WAV_SUFFIX + PART_SUFFIX):
        raise StorageError(f"{part}: the name of an unfinished recording ends in {_WAV_SUFFIX + PART_SUFFIX}")
    return part.with_name(part.name.removesuffix(PART_SUFFIX))


def _refused(path: Path, what: str, error: Exception) -> StorageError:
    if isinstance(error, StorageError):
        return error
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return StorageError(f"{path}: {what}: {reason}; check that its folder is there, writable and not full")


def _lock(path: Path, descriptor: int) -> None:
    """Mark the file as in use for as long as this process lives, so that no other repairs it under its writer."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StorageError(f"{path}: a running recorder is writing it") from None
    except OSError as error:
        # A file system without locks does not keep anyone from recording.
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    done = 0
    while done < len(content):
        done += os.pwrite(descriptor, content[done:], offset + done)


def _read_header(descriptor: int, clock_rate_hz: int) -> WavHeader:
    content = os.pread(descriptor, HEADER_BYTES, 0)
    cut_short = len(content) < HEADER_BYTES and b"RIFF".startswith(content[:4])
    if cut_short or not any(content):  # it never reached the disk, or not as a whole
        return WavHeader(clock_rate_hz, 1, 0)
    return WavHeader.unpack(content)


def _set_sizes(descriptor: int, header: WavHeader) -> None:
    """Cut an incomplete last sample and make the header tell the file's true length."""
    samples = max(0, os.fstat(descriptor).st_size - HEADER_BYTES) // header.frame_bytes
    data_bytes = samples * header.frame_bytes
    os.ftruncate(descriptor, HEADER_BYTES + data_bytes)
    content = WavHeader(header.rate_hz, header.channels, data_bytes).pack()
    if os.pread(descriptor, HEADER_BYTES, 0) != content:
        _write_all(descriptor, content, 0)


def _make_final(descriptor: int, header: WavHeader, part: Path, final: Path) -> WrittenFile:
    try:
        os.fsync(descriptor)
        with open(descriptor, "rb", closefd=False) as file:
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = os.fstat(descriptor).st_size
        _rename(descriptor, part, final)
        _sync_folder(final.parent)
    except OSError as error:
        raise _refused(part, "cannot be made durable", error) from error
    samples = (size - HEADER_BYTES) // header.frame_bytes
    return WrittenFile(final, samples, samples / header.rate_hz, size, sha256)


def _rename(descriptor: int, part: Path, final: Path) -> None:
    """Give the file its final name; never replaces another, and may be done again after it was interrupted."""
    try:
        try:
            os.link(part, final)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            # Whoever makes this file first owns the name; then it may be replaced.
            os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, _MODE))
            part.replace(final)
    except (FileExistsError, FileNotFoundError) as error:
        if not os.path.lexists(final) or not os.path.samestat(os.fstat(descriptor), final.stat()):
            taken = isinstance(error, FileExistsError)
            raise StorageError(
                f"{final}: is there already and was kept; its new recording is {part}"
                if taken
                else f"{part}: was moved or deleted while it was written"
            ) from error
    part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
