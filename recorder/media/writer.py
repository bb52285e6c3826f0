"""The writer thread: every `block_s` it takes what is due from every live recording and writes it.

Disk stalls stop here: the calls go on, the taps' rings fill, and what they lose is counted. The thread itself never
syncs a file; a recording that has ended is handed on to be made durable elsewhere.
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
from recorder.media.recording import Recording
from recorder.metrics import Metrics

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Begin:
    """Take a recording up."""

    recording: Recording


@dataclass(frozen=True, slots=True)
class _End:
    """End a recording at a position of the bridge clock; None: as far as it has come."""

    recording: Recording
    position: int | None


@dataclass(slots=True)
class _Counted:
    """What of a recording's counts is in the metrics already."""

    dropped_samples: int = 0
    storage_errors: int = 0


class Writer:
    """Writes all recordings, on one thread of its own.

    Args:
        on_ended: gets each recording once, on the writer thread, when its last block is written. It must not block: it
            passes the recording to the thread that calls `Recording.commit`.
        block_s: how often each recording is written.
        metrics: gets `write`, `writer_lag`, `dropped_samples`, `storage_errors` (operation "write") and
            `recordings_live`.
    """

    def __init__(
        self, on_ended: Callable[[Recording], None], *, block_s: float = 0.2, metrics: Metrics | None = None
    ) -> None:
        self._on_ended = on_ended
        self._block_s = block_s
        self._metrics = Metrics() if metrics is None else metrics
        self._write_errors = self._metrics.storage_errors.labels("write")
        self._thread = threads.named("writer", self._run)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._commands: deque[_Begin | _End] = deque()
        self._closed = False
        self._due: float | None = None  # when the next round is to begin; None before the first
        self._live: dict[Recording, _Counted] = {}

    @property
    def live(self) -> int:
        """How many recordings are being written."""
        return len(self._live)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def begin(self, recording: Recording) -> None:
        """Take up a recording, from any thread; its file is opened on the writer thread.

        Raises:
            StorageError: the writer has stopped.
        """
        self._submit(_Begin(recording))

    def end(self, recording: Recording, end_position: int | None = None) -> None:
        """End a recording at `end_position` of the bridge clock (None: as far as it has come), from any thread.

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
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def lag_s(self) -> float:
        """How long ago the next round was due. Any thread may ask, also while the disk holds a round up."""
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
            try:
                self._round()
            except Exception:  # noqa: BLE001 - without this thread nothing is recorded at all
                _log.exception("writer_round_failed")
            # Rounds that were missed are not made up for: the next one takes all that has come meanwhile.
            self._due = due = max(due + self._block_s, now)
        with self._lock:
            self._closed = True
        self._obey()
        for recording in list(self._live):
            self._finish(recording, None)

    def _round(self) -> None:
        """Do what was asked for, then write one block of every recording."""
        self._obey()
        observe = self._metrics.write.observe
        before = time.perf_counter()
        for recording in list(self._live):
            if recording.failure is not None:
                continue
            try:
                recording.pump()
                self._count(recording)
            except Exception as error:  # noqa: BLE001 - one recording's fault must not take the others with it
                self._fail(recording, error)
            after = time.perf_counter()
            observe(after - before)
            before = after

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
            try:
                recording.open()
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(recording, error)

    def _finish(self, recording: Recording, position: int | None) -> None:
        try:
            recording.finish(position)
            self._count(recording)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(recording, error)
            self._finish_failed(recording, position)
        del self._live[recording]
        self._metrics.recordings_live.set(len(self._live))
        try:
            self._on_ended(recording)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("recording_not_handed_on", path=str(recording.path))

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
        dropped, errors = recording.dropped_samples, recording.storage_errors
        if dropped != counted.dropped_samples:
            self._metrics.dropped_samples.inc(dropped - counted.dropped_samples)
            counted.dropped_samples = dropped
        if errors != counted.storage_errors:
            self._write_errors.inc(errors - counted.storage_errors)
            counted.storage_errors = errors
