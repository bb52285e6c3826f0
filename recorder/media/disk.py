"""The disk thread: it alone touches the files of recordings that are being written.

Disk stalls stop here: the writer goes on, and what it hands over waits in memory. A second thread makes what has been
written durable every `sync_s`, so that a power failure costs no more than that; it holds nobody up.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from recorder import threads
from recorder.media.recording import Recording
from recorder.media.spool import LOOK_S, RETRY_S, Memory
from recorder.metrics import Metrics

_log = structlog.get_logger()
_libc = ctypes.CDLL(None, use_errno=True)


class Disk:
    """Writes what is queued of all recordings, on one thread of its own.

    Args:
        on_stored: gets each recording once, on the disk thread, when all of it has been written.
        memory_bytes: what may wait for the disk.
        sync_s: how often what has been written is made durable; None: when its call has ended.
        metrics: gets `write`, `storage_errors` (operations "write" and "sync"), `lost_samples`,
            `disk_queue` and `disk_lag`.
    """

    def __init__(
        self, on_stored: Callable[[Recording], None], memory_bytes: int, sync_s: float | None, metrics: Metrics
    ) -> None:
        self.memory = Memory(memory_bytes)
        self._on_stored = on_stored
        self._sync_s = sync_s
        self._metrics = metrics
        self._write_errors = metrics.storage_errors.labels("write")
        self._recordings: dict[Recording, int] = {}  # -> its storage errors that are in the metrics
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._deadline: float | None = None
        self._behind_since: float | None = None
        self._thread = threads.named("disk", self._run)
        self._syncer = threads.named("disk-sync", self._sync)
        metrics.disk_queue.set_function(lambda: self.memory.used_bytes)
        metrics.disk_lag.set_function(lambda: self.lag_s)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()
        if self._sync_s is not None:
            self._syncer.start()

    def add(self, recording: Recording) -> None:
        """Take up a recording, once, from any thread; its file is opened at once."""
        with self._lock:
            if recording in self._recordings or recording.spool.stored:
                return
            recording.spool.memory = self.memory
            recording.spool.on_lost = self._metrics.lost_samples.inc
            self._recordings[recording] = 0
        self.wake()

    def wake(self) -> None:
        """There is something to write."""
        if self._behind_since is None:
            self._behind_since = time.monotonic()
        self._wake.set()

    @property
    def lag_s(self) -> float:
        """For how long the disk has not kept up. Any thread may ask."""
        since = self._behind_since
        return 0.0 if since is None else max(0.0, time.monotonic() - since)

    def stop(self, timeout_s: float) -> bool:
        """Write what is queued, then end the thread. Returns whether that came about in time.

        What the disk does not take until then is lost with the process; its recordings stay `.part` files.
        """
        self._deadline = time.monotonic() + timeout_s
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s + LOOK_S)
        return not self._thread.is_alive() and not self._recordings

    def _run(self) -> None:
        failing = False
        while True:
            self._wake.wait(RETRY_S if failing or self._stopping.is_set() else LOOK_S)
            self._wake.clear()
            began = time.monotonic()
            try:
                failing = self._round()
            except BaseException:  # noqa: BLE001 - without this thread nothing is recorded at all
                _log.exception("disk_round_failed")
                failing = True
            if not failing and not self._wake.is_set():
                self._behind_since = None
            elif not failing:
                self._behind_since = began
            if self._deadline is not None and (not self._recordings or time.monotonic() >= self._deadline):
                break
        for recording in list(self._recordings):
            _log.error("recording_left_unfinished", path=str(recording.path), waiting=self.memory.used_bytes)
            recording.spool.abandon()

    def _round(self) -> bool:
        """Write what is due of every recording. Returns whether any was refused."""
        observe = self._metrics.write.observe
        failing = False
        for recording in list(self._recordings):
            spool = recording.spool
            worked = not spool.idle
            before = time.perf_counter()
            try:
                spool.flush(time.monotonic())
            except Exception:  # noqa: BLE001 - one recording's fault must not take the others with it
                _log.exception("recording_failed", path=str(recording.path))
                self._metrics.storage_errors.labels("recording").inc()
                spool.give_up()
            if worked:
                observe(time.perf_counter() - before)
            self._count(recording)
            if spool.stored:
                self._hand_on(recording)
            failing = failing or spool.failing
        return failing

    def _hand_on(self, recording: Recording) -> None:
        del self._recordings[recording]
        try:
            self._on_stored(recording)
        except Exception:  # noqa: BLE001 - one recording's fault must not take the others with it
            _log.exception("recording_not_handed_on", path=str(recording.path))

    def _count(self, recording: Recording) -> None:
        errors = recording.spool.errors
        if errors != self._recordings[recording]:
            self._write_errors.inc(errors - self._recordings[recording])
            self._recordings[recording] = errors

    def _sync(self) -> None:
        while not self._stopping.wait(self._sync_s):
            for folder in {recording.path.parent for recording in list(self._recordings)}:
                try:
                    sync_file_system(folder)
                except OSError as error:
                    self._metrics.storage_errors.labels("sync").inc()
                    _log.error("sync_failed", folder=str(folder), error=error.strerror)


def sync_file_system(folder: Path) -> None:
    """Make durable what was written to the file system that `folder` is on: syncfs(2). Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
