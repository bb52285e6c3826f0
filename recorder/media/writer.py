"""The writer thread: every `block_s` it takes what is due from every live recording and hands it to the disk thread.

It never waits for the disk. A recording that has ended and is written is handed on to be made durable elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from recorder import threads
from recorder.errors import StorageError
from recorder.media.disk import Disk
from recorder.media.recording import Recording
from recorder.metrics import Metrics

_log = structlog.get_logger()

# Who wakes so much too late supposes that the whole process stood still: what came meanwhile is in the sockets, ...
STALL_S = 0.15
# ... and is not to count as late because this thread has its turn before the media threads have theirs.
CATCH_UP_S = 0.2


@dataclass(frozen=True, slots=True)
class _Begin:
    """Take a recording up."""

    recording: Recording


@dataclass(frozen=True, slots=True)
class _End:
    """End a recording at a position of the media clock; None: as far as it has come."""

    recording: Recording
    position: int | None


@dataclass(slots=True)
class _Counted:
    """What of a recording's counts is in the metrics already."""

    dropped_samples: int = 0


class Writer:
    """Writes all recordings, on one thread of its own and one for the disk.

    Args:
        on_ended: gets each recording once, on the disk thread, when its last block is written. It must not block: it
            passes the recording to the thread that calls `Recording.commit`.
        block_s: how often each recording is written.
        memory_bytes: what may wait for the disk; more is lost.
        sync_s: how often what is written is made durable; None: only when its call has ended.
        metrics: gets `writer_lag`, `dropped_samples`, `recordings_live`, and what `Disk` measures.
    """

    def __init__(
        self,
        on_ended: Callable[[Recording], None],
        *,
        block_s: float = 0.2,
        memory_bytes: int = 256_000_000,
        sync_s: float | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._block_s = block_s
        self._metrics = Metrics() if metrics is None else metrics
        self.disk = Disk(on_ended, memory_bytes, sync_s, self._metrics)
        self._thread = threads.named("writer", self._run)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._commands: deque[_Begin | _End] = deque()
        self._closed = False
        self._due: float | None = None  # when the next round is to begin; None before the first
        self._awake = 0.0  # when this thread was last seen to run
        self._live: dict[Recording, _Counted] = {}

    @property
    def live(self) -> int:
        """How many recordings are being written."""
        return len(self._live)

    def start(self) -> None:
        """Begin to write."""
        self.disk.start()
        self._thread.start()

    def begin(self, recording: Recording) -> None:
        """Take up a recording, from any thread; its file is opened on the disk thread.

        Raises:
            StorageError: the writer has stopped.
        """
        self._submit(_Begin(recording))
        self.disk.add(recording)  # so that there is a file before there is anything to write

    def end(self, recording: Recording, end_position: int | None = None) -> None:
        """End a recording at `end_position` of the media clock (None: as far as it has come), from any thread.

        A recording that is not live any more is left alone: to end twice is to end once.
        """
        # After `stop` nothing is live: the recording has ended already.
        try:
            self._submit(_End(recording, end_position))
        except StorageError:
            _log.info("writer_has_stopped", path=str(recording.path))

    def stop(self, timeout_s: float) -> bool:
        """End what is live where it has come to, and the thread. Returns whether that came about in time.

        False means that the disk holds the thread up; what it has not finished stays a `.part` for the next start.
        """
        deadline = time.monotonic() + timeout_s
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        stored = self.disk.stop(max(0.0, deadline - time.monotonic()))
        return stored and not self._thread.is_alive()

    @property
    def lag_s(self) -> float:
        """How long ago the next round was due. Any thread may ask."""
        return max(0.0, time.monotonic() - self._due) if self._due is not None else 0.0

    def _submit(self, command: _Begin | _End) -> None:
        with self._lock:
            if self._closed:
                raise StorageError(f"{command.recording.path}: the writer has stopped")
            self._commands.append(command)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            self._metrics.writer_lag.set(now - due)
            self._awake = due
            try:
                self._round()
            except BaseException:  # noqa: BLE001 - without this thread nothing is recorded at all
                self._metrics.storage_errors.labels("writer").inc()
                _log.exception("writer_round_failed")
            # Rounds that were missed are not made up for: the next one takes all that has come meanwhile.
            self._due = due = max(due + self._block_s, now)
        with self._lock:
            self._closed = True
        self._obey()
        for recording in list(self._live):
            self._finish(recording, None)

    def _round(self) -> None:
        """Do what was asked for, then hand one block of every recording to the disk."""
        self._obey()
        for recording in list(self._live):
            if recording.failure is not None:
                continue
            self._let_media_catch_up()
            try:
                recording.pump()
                self._count(recording)
            except Exception as error:  # noqa: BLE001 - one recording's fault must not take the others with it
                self._fail(recording, error)
        if self._live:
            self.disk.wake()

    def _let_media_catch_up(self) -> None:
        stood_still_s = time.monotonic() - self._awake
        if stood_still_s > STALL_S:
            _log.info("writer_stood_still", seconds=round(stood_still_s, 3))
            self._stopping.wait(CATCH_UP_S)
        self._awake = time.monotonic()

    def _obey(self) -> None:
        while self._commands:
            command = self._commands.popleft()
            recording = command.recording
            if isinstance(command, _End):
                if recording in self._live:
                    self._finish(recording, command.position)
                continue
            if recording.finished or recording in self._live:
                continue
            self._live[recording] = _Counted()
            self._metrics.recordings_live.set(len(self._live))

    def _finish(self, recording: Recording, position: int | None) -> None:
        try:
            recording.finish(position)
            self._count(recording)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(recording, error)
            self._finish_failed(recording, position)
        del self._live[recording]
        self._metrics.recordings_live.set(len(self._live))
        self.disk.wake()

    def _finish_failed(self, recording: Recording, position: int | None) -> None:
        """Bring the file to its length all the same: a recording that has failed leaves its sources alone."""
        try:
            recording.finish(position)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("recording_not_finished", path=str(recording.path))

    def _fail(self, recording: Recording, error: Exception) -> None:
        recording.fail(error)
        self._metrics.storage_errors.labels("recording").inc()
        _log.error("recording_failed", path=str(recording.path), exc_info=error)

    def _count(self, recording: Recording) -> None:
        counted = self._live[recording]
        dropped = recording.dropped_samples
        if dropped != counted.dropped_samples:
            self._metrics.dropped_samples.inc(dropped - counted.dropped_samples)
            counted.dropped_samples = dropped
