"""The file of a recording: `<name>.<ending>.part` while it grows, `<name>.<ending>` once it is whole and durable.

The `.part` is always a 16-bit PCM WAV, which is appended to, skipped in, erased in and cut, through a `ByteStore`. No
file is ever replaced, neither at the start nor at the end. Every write is in the kernel when it returns, so a process
that dies loses nothing that was written; only the sizes in the header are stale then, which `repair` sets right.

A 16-bit PCM recording is its `.part`, renamed. Any other format is made from it into `<name>.<ending>.tmp`, which is
synced and gets the final name; only then the `.part` goes. A process that dies at any moment leaves the `.part`, or the
whole file, or both, and `repair` does the rest. What the format is to be, the `.part` says itself: by its name, and for
G.711, which shares its ending with PCM, by its tags.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recorder.byte_store import PLAIN, ByteStore, Storage, sync_folder
from recorder.errors import StorageError
from recorder.file_format import SUFFIXES, FileFormat
from recorder.media.encoder import Described, describe, encode, encoded_samples
from recorder.media.source import Samples
from recorder.media.wav_header import HEADER_BYTES, PCM, WavHeader
from recorder.sealed_store import fingerprint
from recorder.tags import Tags

PART_SUFFIX = ".part"
TEMPORARY_SUFFIX = ".tmp"
_MODE = 0o640  # what people said is not for everyone to read
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_ERASE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A finished recording: durable, under its final name.

    `samples` are of one channel; `bytes` and `sha256` are of the file as it is on the disk (see `sealed_store`).
    """

    path: Path
    samples: int
    duration_s: float
    bytes: int
    sha256: str
    tags: Tags
    file_format: FileFormat
    sample_rate_hz: int


class PartFile:
    """A recording's file that is being written. Made by `create`.

    One thread at a time: the writer's, then the one that commits. Every method but `abandon` raises StorageError when
    the disk refuses; the file can be used further, and committed, after that.
    """

    def __init__(
        self, final_path: Path, store: ByteStore, header: WavHeader, file_format: FileFormat, storage: Storage
    ) -> None:
        self.final_path = final_path
        self.path = part_path(final_path)
        self._store = store
        self._header = header
        self._format = file_format
        self._storage = storage
        self._samples = 0
        self._written: WrittenFile | None = None

    @classmethod
    def create(
        cls,
        final_path: Path,
        clock_rate_hz: int,
        file_format: FileFormat = FileFormat(),  # noqa: B008 - immutable
        *,
        tags: Tags = Tags(),  # noqa: B008 - immutable
        storage: Storage = PLAIN,
    ) -> PartFile:
        """Open `<final_path>.part` for a recording that will become `final_path`, in `file_format`.

        Raises:
            StorageError: either file is there already, or the folder cannot be written.
        """
        part = part_path(final_path)
        if final_path.suffix != file_format.suffix:
            raise StorageError(f"{final_path}: the name of a recording in {file_format.encoding} ends otherwise")
        if os.path.lexists(final_path):
            raise StorageError(f"{final_path}: is there already, and a recording never replaces another")
        try:
            descriptor = _open(part, os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            raise StorageError(
                f"{part}: is there already; a recording never replaces another, `recorder recover` makes it a file"
            ) from None
        except OSError as error:
            raise _refused(part, "cannot be made", error) from error
        try:
            store = storage.create(descriptor)
            header = _header_of(clock_rate_hz, file_format, tags)
            try:
                store.write_at(0, header.pack())
            except OSError:
                _close(store)
                raise
        except (OSError, StorageError) as error:
            part.unlink(missing_ok=True)
            raise _refused(part, "cannot be begun", error) from error
        return cls(final_path, store, header, file_format, storage)

    @classmethod
    def reopen(
        cls,
        final_path: Path,
        clock_rate_hz: int,
        file_format: FileFormat = FileFormat(),  # noqa: B008 - immutable
        *,
        tags: Tags = Tags(),  # noqa: B008 - immutable
        storage: Storage = PLAIN,
    ) -> PartFile | None:
        """Open the `.part` that an earlier PartFile of ours has made and let go of, at its end. None: it is not there.

        Raises:
            StorageError: it cannot be opened.
        """
        part = part_path(final_path)
        header = _header_of(clock_rate_hz, file_format, tags)
        try:
            store = storage.open(_open(part), finished=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _refused(part, "cannot be opened again", error) from error
        file = cls(final_path, store, header, file_format, storage)
        try:
            beginning = store.read_at(0, HEADER_BYTES)
            if len(beginning) < HEADER_BYTES or not any(beginning):  # it was not durable when the disk failed
                store.write_at(0, header.pack())
            file._samples = max(0, store.size - HEADER_BYTES) // header.frame_bytes
        except OSError as error:
            _close(store)
            raise _refused(part, "cannot be opened again", error) from error
        return file

    @property
    def samples(self) -> int:
        """Length so far, of one channel: the position that the next write starts at."""
        return self._samples

    @property
    def in_place(self) -> bool:
        """Whether the file is where it belongs: not deleted, moved away, or on a disk that is mounted no more."""
        if self._written is not None:
            return True
        if self._format.encoding != "pcm16" and os.path.lexists(self.final_path):  # a commit that was interrupted
            return True
        try:
            file = os.fstat(self._store.descriptor)
            for path in (self.path, self.final_path):  # the second, too
                with suppress(FileNotFoundError):
                    if os.path.samestat(file, path.lstat()):
                        return True
        except OSError as error:
            raise _refused(self.path, "cannot be looked at", error) from error
        return False

    def write(self, samples: Samples) -> None:
        """Append samples (several channels: interleaved, or a row a sample).

        When it raises, `self.samples` tells how many were kept.
        """
        count, offset = samples.size // self._header.channels, self._offset(self._samples)
        try:
            self._store.write_at(offset, samples.tobytes())
        except OSError as error:
            self._samples += self._kept(offset, count)
            raise _refused(self.path, "cannot be written", error) from error
        self._samples += count

    def read(self, start: int, count: int) -> Samples:
        """Read up to `count` samples of every channel from `start` on, interleaved."""
        try:
            content = self._store.read_at(self._offset(start), count * self._header.frame_bytes)
        except OSError as error:
            raise _refused(self.path, "cannot be read", error) from error
        return np.frombuffer(content[: len(content) // self._header.frame_bytes * self._header.frame_bytes], np.int16)

    def skip(self, count: int) -> None:
        """Go on `count` samples later. What is between reads as silence and takes no room on most file systems."""
        self._samples += count

    def erase(self, start: int, stop: int) -> None:
        """Overwrite samples [start, stop) with silence, as far as the file has them."""
        offset = self._offset(max(0, start))
        try:
            end = min(self._offset(stop), self._store.size)
            while offset < end:
                step = min(end - offset, _ERASE_BYTES)
                self._store.write_at(offset, bytes(step))
                offset += step
        except OSError as error:
            raise _refused(self.path, "cannot be erased in part", error) from error

    def set_length(self, samples: int) -> None:
        """Cut the file, or extend it with silence, to exactly so many samples of one channel."""
        try:
            self._store.truncate(self._offset(samples))
        except OSError as error:
            raise _refused(self.path, "cannot be brought to its length", error) from error
        self._samples = samples

    def commit(self) -> WrittenFile:
        """Make the file durable under its final name, and let go of it. Slow. May be called again after it raised.

        Raises:
            StorageError: the disk refused, or the final name has been taken meanwhile. The `.part` is still there.
        """
        if self._written is None:
            self.set_length(self._samples)
            self._written = _finish(self._store, self._header, self.path, self._format, self._storage)
            _close(self._store)
        return self._written

    def discard(self) -> None:
        """Let go of the file and remove it."""
        with suppress(OSError):
            self.path.unlink()
        self.abandon()

    def abandon(self) -> None:
        """Let go of the file as it is. It stays a `.part`, and `repair` can make a recording of it."""
        _close(self._store)

    def _offset(self, samples: int) -> int:
        return HEADER_BYTES + samples * self._header.frame_bytes

    def _kept(self, offset: int, count: int) -> int:
        """How many of `count` samples a write at `offset` has left that failed."""
        try:
            return min(count, max(0, self._store.size - offset) // self._header.frame_bytes)
        except OSError:
            return 0


def repair(part: Path, clock_rate_hz: int = 8000, storage: Storage = PLAIN) -> WrittenFile:
    """Make a recording of a `.part` whose process died: true sizes in its header, then as `PartFile.commit` does.

    Args:
        part: `<name>.<ending>.part`; its name and its tags say what it is to become.
        clock_rate_hz: what to assume when not even the header reached the disk.

    Raises:
        StorageError: a living process is writing it, it is no recording, or its final name is another file's.
    """
    final = final_path(part)
    try:
        store = storage.open(_open(part), finished=False)
    except OSError as error:
        raise _refused(part, "cannot be opened", error) from error
    try:
        header = _read_header(store, clock_rate_hz)
        file_format = FileFormat.named(final.name, header.tags.encoding, header.channels)
        return _finish(store, header, part, file_format, storage)
    except ValueError as error:
        raise StorageError(f"{part}: {error}; move it out of the way") from None
    except OSError as error:
        raise _refused(part, "cannot be repaired", error) from error
    finally:
        _close(store)


def look_into(part: Path, clock_rate_hz: int = 8000, storage: Storage = PLAIN) -> Described:
    """What a `.part` whose process died will become, without touching it. Raises StorageError as `repair` does."""
    try:
        store = storage.open(os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), finished=False)
        try:
            header = _read_header(store, clock_rate_hz)
            samples = max(0, store.size - header.header_bytes) // header.frame_bytes
        finally:
            _close(store)
    except ValueError as error:
        raise StorageError(f"{part}: {error}; move it out of the way") from None
    except OSError as error:
        raise _refused(part, "cannot be read", error) from error
    file_format = FileFormat.named(final_path(part).name, header.tags.encoding, header.channels)
    return Described(file_format, header.rate_hz, samples, header.tags)


def part_path(final_path: Path) -> Path:
    """The name of the unfinished file of the recording at `final_path`. Raises StorageError unless it is one."""
    if final_path.suffix not in SUFFIXES:
        raise StorageError(f"{final_path}: the name of a recording ends in {', '.join(SUFFIXES)}")
    return final_path.with_name(final_path.name + PART_SUFFIX)


def final_path(part: Path) -> Path:
    """The name that an unfinished file will have. Raises StorageError unless it is one."""
    final = part.with_name(part.name.removesuffix(PART_SUFFIX))
    if final == part or final.suffix not in SUFFIXES:
        endings = ", ".join(suffix + PART_SUFFIX for suffix in SUFFIXES)
        raise StorageError(f"{part}: the name of an unfinished recording ends in {endings}")
    return final


def _header_of(clock_rate_hz: int, file_format: FileFormat, tags: Tags) -> WavHeader:
    # The tags as they will be read back.
    tags = Tags.from_texts(replace(tags, encoding=file_format.encoding).as_texts())
    return WavHeader(clock_rate_hz, file_format.channels, tags=tags)


def _refused(path: Path, what: str, error: Exception) -> StorageError:
    if isinstance(error, StorageError):
        return error
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return StorageError(f"{path}: {what}: {reason}; check that its folder is there, writable and not full")


def _open(path: Path, flags: int = 0) -> int:
    """Open a file and mark it as in use for as long as this process lives, so that no other repairs it meanwhile."""
    descriptor = os.open(path, flags | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A file system without locks does not keep anyone from recording.
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            return descriptor
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise StorageError(f"{path}: a running recorder is writing it") from None
        raise
    return descriptor


def _close(store: ByteStore) -> None:
    with suppress(OSError):  # what had to be durable has been synced
        store.close()


def _read_header(store: ByteStore, clock_rate_hz: int) -> WavHeader:
    content = store.read_at(0, HEADER_BYTES)
    try:
        header = WavHeader.unpack(content)
    except ValueError:
        cut_short = len(content) < HEADER_BYTES and b"RIFF".startswith(content[:4])
        if cut_short or not any(content):  # it never reached the disk, or not as a whole
            return WavHeader(clock_rate_hz, 1)
        raise
    if header.format_tag != PCM:
        raise ValueError("is not 16-bit PCM, as every unfinished recording is")
    return header


def _finish(store: ByteStore, header: WavHeader, part: Path, file_format: FileFormat, storage: Storage) -> WrittenFile:
    """Make a recording of a `.part` that nothing is added to any more."""
    final = final_path(part)
    try:
        samples = _bring_up_to_date(store, header)
        header = replace(header, data_bytes=samples * header.frame_bytes)
        if file_format.encoding == "pcm16":
            store.sync()
            size, sha256 = _fingerprint(store.descriptor)
            _rename(store.descriptor, part, final)
        else:
            samples = _encode(store, header, part, file_format, storage)
            descriptor = os.open(final, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                size, sha256 = _fingerprint(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(final.parent)
    except OSError as error:
        raise _refused(part, "cannot be made durable", error) from error
    return WrittenFile(final, samples, samples / header.rate_hz, size, sha256, header.tags, file_format, header.rate_hz)


def _encode(store: ByteStore, header: WavHeader, part: Path, file_format: FileFormat, storage: Storage) -> int:
    """Make the final file from a `.part`, and remove that. Returns how many samples of one channel it has."""
    final = final_path(part)
    temporary = final.with_name(final.name + TEMPORARY_SUFFIX)
    samples = encoded_samples(header.samples, file_format.encoding)
    if not _is_made(final, samples, header, file_format, storage):
        # Not truncated: it may be the final file by another name.
        temporary.unlink(missing_ok=True)
        made = storage.create(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))
        try:
            encode(store, header, file_format.encoding, made)
            if (found := describe(made)).samples != samples:
                raise OSError(errno.EIO, f"{found.samples} samples were encoded instead of {samples}")
            made.sync()
            _name(made.descriptor, temporary, final, part)
        finally:
            _close(made)
            temporary.unlink(missing_ok=True)
        sync_folder(final.parent)
    part.unlink(missing_ok=True)
    temporary.unlink(missing_ok=True)
    return samples


def _is_made(final: Path, samples: int, header: WavHeader, file_format: FileFormat, storage: Storage) -> bool:
    """Whether the final file was made from this `.part` already, before the process died or the disk refused."""
    try:
        store = storage.open(os.open(final, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
    except FileNotFoundError:
        return False
    try:
        return describe(store) == Described(file_format, header.rate_hz, samples, header.tags)
    except OSError:
        return False
    finally:
        _close(store)


def _bring_up_to_date(store: ByteStore, header: WavHeader) -> int:
    """Cut off a sample that is there in part, and make the header tell the true sizes. Returns how many samples."""
    samples = max(0, store.size - header.header_bytes) // header.frame_bytes
    header = replace(header, data_bytes=samples * header.frame_bytes)
    store.truncate(header.header_bytes + header.data_bytes)
    content = header.pack()
    if store.read_at(0, len(content)) != content:
        store.write_at(0, content)
    return samples


def _fingerprint(descriptor: int) -> tuple[int, str]:
    with open(descriptor, "rb", closefd=False) as file:
        return fingerprint(file)


def _rename(descriptor: int, part: Path, final: Path) -> None:
    """Give a `.part` its final name; never replaces another, and may be done again after it was interrupted."""
    _name(descriptor, part, final, part)
    part.unlink(missing_ok=True)


def _name(descriptor: int, path: Path, final: Path, part: Path) -> None:
    """Give the file at `path`, which is open as `descriptor`, its final name, beside the one that it has."""
    try:
        try:
            os.link(path, final)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            _reserve(final)
            path.replace(final)
    except (FileExistsError, FileNotFoundError) as error:
        if not os.path.lexists(final) or not os.path.samestat(os.fstat(descriptor), final.stat()):
            taken = isinstance(error, FileExistsError)
            raise StorageError(
                f"{final}: is there already and was kept; its new recording is {part}"
                if taken
                else f"{path}: was moved or deleted while it was written"
            ) from error


def _reserve(final: Path) -> None:
    """Whoever makes this file first owns the name; then it may be replaced. Raises FileExistsError."""
    try:
        os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, _MODE))
    except FileExistsError:
        if final.stat().st_size:
            raise
        # Reserved by a process that died before it went on.
