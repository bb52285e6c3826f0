"""Between the writer and the disk: what of one recording is still to be written, and the file that it goes to.

The writer puts in what is redacted and mixed, and never waits. The disk thread carries it out, in the same order. While
the disk stalls or refuses, all of it waits in memory, of which all recordings together have so much; what finds no room
is lost, and listed as a gap. A file that is deleted or moved away while it is written is made again, with what it held;
one on a disk that failed is opened again, and what it lacks then is a gap.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog

from recorder.errors import StorageError
from recorder.media.losses import Cause, Losses, Lost
from recorder.media.part_file import PartFile, WrittenFile
from recorder.media.source import Samples

_log = structlog.get_logger()

# After n failures in a row the disk is tried again n * 0.2 s later, 2 s at the most.
RETRY_S = 0.2
_RETRY_STEPS = 10
# How often it is seen to that the file is still where it belongs.
LOOK_S = 1.0
# What has waited is written in pieces of this size.
_PIECE_SAMPLES = 1 << 19
# After these the file itself is as good as before; after any other it is opened anew.
_HARMLESS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM, errno.EINTR, errno.EAGAIN),
    *(errno.EMFILE, errno.ENFILE),
)


class Memory:
    """The memory that what waits for the disk may take, in bytes, shared by all recordings. Any thread."""

    def __init__(self, limit_bytes: int | None = None) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        """Take `count` bytes, if there is room for them."""
        with self._lock:
            if self.limit_bytes is not None and self.used_bytes + count > self.limit_bytes:
                return False
            self.used_bytes += count
            return True

    def give_back(self, count: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self.used_bytes -= count


@dataclass(slots=True)
class _Write:
    at: int
    samples: Samples


@dataclass(frozen=True, slots=True)
class _Note:
    content: bytes


@dataclass(frozen=True, slots=True)
class _Erase:
    start: int
    stop: int


class Spool:
    """What is to be written of one recording.

    `put`, `erase`, `lose` and `end` belong to the writer thread, `flush` to the disk thread, and `commit` to the one
    that keeps the file, once it is `stored`. Positions are samples of the file.

    Args:
        path: the final name of the recording.
        create: makes its `.part`. Raises StorageError.
        reopen: opens its `.part` again, None when there is none. Raises StorageError.
    """

    def __init__(self, path: Path, create: Callable[[], PartFile], reopen: Callable[[], PartFile | None]) -> None:
        self.path = path
        self.memory = Memory()
        self.on_lost: Callable[[int], object] = int  # is told of how many samples are lost; any thread
        self.on_loss: Callable[[tuple[str | int, ...]], object] | None = None  # of each loss; any thread
        self.journal_lost = False  # all that the journal said has to be said again
        self.errors = 0
        self.stored = False
        self._create = create
        self._reopen = reopen
        self._part: PartFile | None = None
        self._made = False  # there has been a .part of ours
        self._queue: deque[_Write | _Erase | _Note] = deque()
        self._erased: list[_Erase] = []  # what a disk that failed may have forgotten
        self._end: int | None = None
        self._written = 0  # the file has been told of everything up to here
        self._losses = Losses()
        self._lock = threading.Lock()  # of _losses
        self._unjournalled = b""  # what the disk did not take for the journal
        self._failures = 0
        self._retry_at = 0.0
        self._look_at = 0.0
        self._broken = False

    # The writer's side --------------------------------------------------------------------------------------------

    def put(self, at: int, samples: Samples) -> None:
        """Write `samples` at position `at`, not before what was put last; what is between is silence."""
        if self._broken:
            self.lose("failure", at, len(samples))
        elif self.memory.take(samples.nbytes):
            self._queue.append(_Write(at, samples))
        else:
            self.lose("storage", at, len(samples))

    def erase(self, start: int, stop: int) -> None:
        """Make silence of [start, stop), as far as it has been put: in memory at once, then in the file."""
        for item in tuple(self._queue):
            if isinstance(item, _Write):
                item.samples[max(0, start - item.at) : max(0, stop - item.at)] = 0
        self._queue.append(_Erase(start, stop))

    def note(self, content: bytes) -> None:
        """Add a line to the journal: the file `journal` beside the `.part`."""
        self._queue.append(_Note(content))

    def lose(self, cause: Cause, start: int, length: int) -> None:
        """Note that the file has silence there in place of what was said."""
        if length <= 0:
            return
        with self._lock:
            self._losses.add(cause, start, length)
            if self.on_loss is not None:
                self.on_loss(("lost", cause, start, length))
        self.on_lost(length)

    def end(self, samples: int) -> None:
        """Nothing more will be put: the file has exactly so many samples."""
        self._end = samples

    # Any thread ---------------------------------------------------------------------------------------------------

    @property
    def losses(self) -> tuple[Lost, ...]:
        """What was lost so far; no two overlap."""
        with self._lock:
            return tuple(self._losses.listed)

    @property
    def lost_samples(self) -> int:
        """How much was lost so far."""
        return sum(lost.length for lost in self.losses)

    @property
    def failing(self) -> bool:
        """Whether the disk refused it when last tried."""
        return self._failures > 0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do for the disk but to look after the file."""
        return self._part is not None and not self._queue and (self._end is None or self.stored)

    # The disk's side ----------------------------------------------------------------------------------------------

    def flush(self, now: float) -> None:
        """Write what is queued. Never raises StorageError: what the disk refuses stays queued, and is tried again."""
        if now < self._retry_at:
            return
        try:
            self._store(self._opened(now))
        except StorageError as error:
            self._refused(error, now)
            return
        if self._failures:
            self._failures = 0
            _log.warning("recording_storage_back", path=str(self.path), lost_samples=self.lost_samples)

    def give_up(self) -> None:
        """Write nothing more, after a fault of ours. What the file has stays."""
        self._broken = True
        self._lose_all("failure")

    def commit(self) -> WrittenFile:
        """Make the file durable under its final name: slow. May be called again after it raised StorageError.

        The end has been set; what the disk had not taken before is written first.
        """
        assert self._end is not None
        now = time.monotonic()
        try:
            part = self._opened(now)
            self._store(part)
            return part.commit()
        except StorageError as error:
            self._refused(error, now)
            raise

    def abandon(self) -> None:
        """Let go of the file as it is, and of what waits for it."""
        self._lose_all("storage")
        if self._part is not None:
            self._part.abandon()

    def _store(self, part: PartFile) -> None:
        while self._queue:
            item = self._queue[0]
            if isinstance(item, _Write):
                self._write(part)
            elif isinstance(item, _Erase):
                part.erase(item.start, item.stop)
                self._erased.append(item)
                self._queue.popleft()
            else:
                self._add_note(part, item.content + b"\n")
                self._queue.popleft()
        if self._unjournalled:
            self._add_note(part, b"")
        # The end is set after the last item has been put.
        if self._end is not None and not self._queue:
            if part.samples != self._end:
                part.set_length(self._end)
            self.stored = True

    def _add_note(self, part: PartFile, line: bytes) -> None:
        """Add to the journal, as well as may be: what the disk refuses goes there the next time."""
        content = self._unjournalled + line
        try:
            with open(_journal(part), "ab", opener=_private) as file:
                file.write(content)
            self._unjournalled = b""
        except OSError as error:
            if not self._unjournalled:
                _log.warning("journal_not_written", path=str(self.path), error=error.strerror)
            # A line that got there in part ends here; one that is there twice counts once.
            self._unjournalled = content if content.startswith(b"\n") else b"\n" + content

    def _opened(self, now: float) -> PartFile:
        """The file, open and in its place."""
        if self._part is not None and now >= self._look_at:
            self._look_at = now + LOOK_S
            if not self._part.in_place:
                self._part = self._made_again(self._part)
        if self._part is None:
            part = self._reopen() if self._made else None
            self.journal_lost = self.journal_lost or self._made
            if part is None:
                part = self._created()
            self._queue.extendleft(self._erased)
            self._erased.clear()
            self._part, self._made, self._look_at = part, True, now + LOOK_S
            self._file_lost(part.samples)
            self._forget(part.samples)
        return self._part

    def _created(self) -> PartFile:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.path.parent}: cannot be made again: {error.strerror}") from error
        return self._create()

    def _made_again(self, old: PartFile) -> PartFile:
        """Another file in the place of one that was deleted or moved away, with what that one holds."""
        _log.error("recording_file_gone", path=str(self.path))
        part = self._created()
        try:
            while part.samples < old.samples:
                try:
                    piece = old.read(part.samples, _PIECE_SAMPLES)
                except StorageError as error:
                    _log.error("recording_not_saved_from_its_file", path=str(self.path), error=str(error))
                    break
                if not len(piece):
                    break
                part.write(piece)
        except StorageError:
            part.discard()  # the old file is still open, and is copied when there is room
            raise
        old.abandon()
        self.journal_lost = True
        self._file_lost(part.samples)
        return part

    def _file_lost(self, has: int) -> None:
        """Note what the file does not have any more, though it was written."""
        if has >= self._written:
            return
        with self._lock:
            more = self._losses.gone(has, self._written)
            if self.on_loss is not None:
                self.on_loss(("gone", has, self._written))
        self.on_lost(more)

    def _write(self, part: PartFile) -> None:
        """Write what is queued without a break from the first item on, at most a piece."""
        first = self._queue[0]
        assert isinstance(first, _Write)
        pieces, end = [first.samples], first.at + len(first.samples)
        for item in tuple(self._queue)[1:]:
            if not isinstance(item, _Write) or item.at != end or end - first.at >= _PIECE_SAMPLES:
                break
            pieces.append(item.samples)
            end = item.at + len(item.samples)
        if part.samples < first.at:
            part.skip(first.at - part.samples)
        try:
            part.write(pieces[0] if len(pieces) == 1 else np.concatenate(pieces))
        finally:
            self._written = max(self._written, part.samples)
            self._forget(part.samples)

    def _forget(self, written: int) -> None:
        """Drop from the queue what is written: everything before position `written`."""
        while self._queue:
            item = self._queue[0]
            if not isinstance(item, _Write) or item.at >= written:
                return
            if item.at + len(item.samples) > written:
                done = item.samples[: written - item.at]
                self._queue[0] = _Write(written, item.samples[len(done) :])
                self.memory.give_back(done.nbytes)
                return
            self._queue.popleft()
            self.memory.give_back(item.samples.nbytes)

    def _lose_all(self, cause: Cause) -> None:
        """Nothing that waits will be written; what has to be erased still must be before the file is committed."""
        waiting = tuple(self._queue)
        self._queue.clear()
        for item in waiting:
            if isinstance(item, _Write):
                self.lose(cause, item.at, len(item.samples))
                self.memory.give_back(item.samples.nbytes)
            else:
                self._queue.append(item)
        self.stored = self._end is not None

    def _refused(self, error: StorageError, now: float) -> None:
        if not self._failures:
            _log.error("recording_storage_failed", path=str(self.path), error=str(error))
        self._failures += 1
        self.errors += 1
        self._retry_at = now + min(self._failures, _RETRY_STEPS) * RETRY_S
        cause = error.__cause__
        if self._part is not None and isinstance(cause, OSError) and cause.errno not in _HARMLESS:
            # The disk may be gone for good, and cannot be mounted anew while a file on it is open.
            self._part.abandon()
            self._part = None
        elif not isinstance(cause, OSError) and self._end is not None:
            self._lose_all("storage")  # it is not the disk's fault: there will be no file, whatever is waited for


def _journal(part: PartFile) -> Path:
    return part.path.with_name(part.path.name + ".journal")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o640)
