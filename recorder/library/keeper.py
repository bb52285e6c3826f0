"""The way of an ended call into the library: durable file, manifest, then index row, CDR and usage entry together.

Calls hand over and go on. A few threads make files durable (each fsync waits for the disk, not for the interpreter);
one thread writes the index, a batch of calls in one transaction. While the disk refuses a file, its call waits and is
tried again, and the others go on. While the index cannot be written, files and manifests are kept all the same and the
entries wait, with back-off; `stop` leaves what is still waiting where the next start finds it (`recovery.reindex`).
"""

from __future__ import annotations

import errno
import json
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog

from recorder import threads
from recorder.errors import StorageError
from recorder.library import journal
from recorder.library.database import EntryError
from recorder.library.index import Index
from recorder.library.ledger import Ledger
from recorder.library.manifest import Manifest, WrittenFile, encoded
from recorder.library.recovery import PART_SUFFIX, recording_name, recovered_manifest
from recorder.library.spill import write_spill
from recorder.metrics import Metrics

_log = structlog.get_logger()

FILE_THREADS = 4
BATCH_CALLS = 200
# How long the index waits for a second call to share a transaction with: halves its CPU at 100 calls a second.
GATHER_S = 0.05
FILE_BACK_OFFS_S = (0.1, 0.5, 2.5)
# After these, a file that the disk refuses is tried again so often.
LATER_S = 10.0
INDEX_BACK_OFF_S = 0.1
LAST_INDEX_BACK_OFF_S = 10.0
LAST_WRITE_S = 10.0

_DISK_AWAY = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOENT, errno.EACCES, errno.ENODEV, errno.ENXIO),
    *(errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EFBIG),  # the machine's limits: they pass as well
)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class EndedCall:
    """A call that has ended, to be kept.

    Args:
        cdr: its detail record, with the keys of `recorder.calls.cdr.CallDetailRecord`.
        commit: makes its recording durable under its final name; None when the call was not recorded. It may be called
            again after it raised StorageError or OSError.
        manifest_of: makes the manifest of what `commit` returned; given exactly when `commit` is.
        ended_monotonic: `time.monotonic()` at the end of the call.
        recovered: an earlier process's call, whose CDR the index may have already.
    """

    cdr: Mapping[str, Any]
    commit: Callable[[], WrittenFile] | None
    manifest_of: Callable[[WrittenFile], Manifest] | None
    ended_monotonic: float
    recovered: bool = False


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the index still lacks. `on_disk`: a manifest with the CDR in it is durable, so a restart loses nothing."""

    cdr: Mapping[str, Any]
    manifest: Manifest | None
    ended_monotonic: float
    on_disk: bool
    recovered: bool = False


class Keeper:
    """Takes ended calls from any thread and keeps them, in the order that the contract names.

    The queue has no bound, since a call's end must not be refused; past `alarm_depth` it says so in the log, and its
    depth is a metric. `folder` is where recordings are; CDRs that never reached the index are left there by `stop`.
    `ledger`, if there is one, gets a line for each recording before the index knows of it.
    """

    def __init__(
        self, index: Index, folder: Path, metrics: Metrics, alarm_depth: int = 500, ledger: Ledger | None = None
    ) -> None:
        self._index = index
        self._folder = folder
        self._metrics = metrics
        self._alarm_depth = alarm_depth
        self._ledger = ledger
        self._to_file: queue.SimpleQueue[EndedCall | None] = queue.SimpleQueue()
        self._to_index: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        # Owned by the index thread, and by `stop` once that has ended.
        self._waiting: list[_Entry] = []
        self._in_ledger = 0  # how many of the first of these have their line
        self._unfiled: dict[int, EndedCall] = {}
        self._put_off: deque[tuple[float, EndedCall]] = deque()  # when they are due, in order; under _state
        self._put_off_once: set[int] = set()
        self._depth = 0
        self._alarmed = False
        self._state = threading.Condition()
        self._draining = threading.Event()
        self._stopping = threading.Event()
        self._file_threads = [
            threads.named(f"keeper-file-{number}", self._keep_files) for number in range(FILE_THREADS)
        ]
        self._index_thread = threads.named("keeper-index", self._keep_entries)

    def start(self) -> None:
        """Begin to keep calls."""
        for thread in (*self._file_threads, self._index_thread):
            thread.start()

    def submit(self, call: EndedCall) -> None:
        """Take over an ended call. Never waits for the disk or the index."""
        with self._state:
            self._depth += 1
            self._metrics.finish_queue.set(self._depth)
            alarm = self._depth > self._alarm_depth and not self._alarmed
            self._alarmed = self._alarmed or alarm
            if call.commit is not None:
                self._unfiled[id(call)] = call
        if alarm:
            _log.warning("finish_queue_long", depth=self._depth)
        if call.commit is None:
            self._to_index.put(_Entry(call.cdr, None, call.ended_monotonic, on_disk=False))
        else:
            self._to_file.put(call)

    @property
    def depth(self) -> int:
        """How many calls are not kept yet."""
        return self._depth

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until every submitted call is kept. Returns whether that came about in time."""
        with self._state:
            return self._state.wait_for(lambda: self._depth == 0, timeout_s)

    def stop(self, timeout_s: float) -> int:
        """Keep what is queued, then end the threads; submit nothing from here on. A second call does nothing.

        Returns how many calls the index still lacks after `timeout_s`. Those with a manifest are found by the next
        start, the CDRs of the others are left in a file for it, and a recording that was not made durable in time is
        still its `.part`, which the next start repairs.
        """
        if self._stopping.is_set():
            return self._depth
        deadline = time.monotonic() + timeout_s
        self._draining.set()
        for _ in self._file_threads:
            self._to_file.put(None)
        for thread in self._file_threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._to_index.put(None)
        self._index_thread.join(max(0.0, deadline - time.monotonic()))
        self._stopping.set()
        # The transaction it is in has time limits of its own, unless the disk hangs.
        self._index_thread.join(LAST_WRITE_S)
        self._leave_for_next_start()
        return self._depth

    def _keep_files(self) -> None:
        while (call := self._next()) is not None:
            try:
                entry = self._keep_file(call)
            except Exception as error:  # noqa: BLE001 - the thread outlives a fault in what it was handed
                if _is_the_disks(error) and not self._draining.is_set():
                    self._put_off_a_while(call)
                    continue
                if not isinstance(error, StorageError | OSError):
                    self._metrics.storage_errors.labels("commit").inc()
                    _log.exception("commit_failed", **_facts(call.cdr))
                entry = self._failed(call)
            self._to_index.put(entry)
            with self._state:
                del self._unfiled[id(call)]
                self._put_off_once.discard(id(call))

    def _next(self) -> EndedCall | None:
        """Wait for a call to keep: one that was put off and is due, or a new one. None: there will be no more."""
        while True:
            wait_s = None
            with self._state:
                if self._put_off:
                    wait_s = self._put_off[0][0] - time.monotonic()
                    if wait_s <= 0 or self._draining.is_set():
                        return self._put_off.popleft()[1]
            with suppress(queue.Empty):
                call = self._to_file.get(timeout=wait_s)
                if call is not None or not self._put_off:
                    return call
                self._to_file.put(None)  # what was put off comes before the end

    def _put_off_a_while(self, call: EndedCall) -> None:
        _log.warning("commit_put_off", retry_s=LATER_S, **_facts(call.cdr))
        with self._state:
            self._put_off.append((time.monotonic() + LATER_S, call))
            self._put_off_once.add(id(call))

    def _keep_file(self, call: EndedCall) -> _Entry:
        """Make the file and its manifest durable. Raises what the last try at the file has raised."""
        assert call.commit is not None
        # One that has been put off is tried once each time, so that those with a sound disk need not wait for it.
        back_offs_s = () if id(call) in self._put_off_once else FILE_BACK_OFFS_S
        file = self._persist("commit", call.commit, call.cdr, back_offs_s)
        manifest = self._manifest(call, file)
        if self._ledger is not None:
            manifest = manifest.signed(self._ledger.signer)
        on_disk = True
        try:
            self._persist("manifest", lambda: manifest.write(file.path.parent), call.cdr, back_offs_s)
        except (StorageError, OSError) as error:
            if _is_the_disks(error) and not self._draining.is_set():
                raise
            on_disk = False
        else:
            journal.remove(file.path.with_name(file.path.name + PART_SUFFIX))
        self._metrics.recordings.labels("recovered" if call.recovered else "kept").inc()
        self._metrics.recorded.inc(manifest.duration_s)
        return _Entry(call.cdr, manifest, call.ended_monotonic, on_disk, call.recovered)

    def _failed(self, call: EndedCall) -> _Entry:
        # Its .part is still there: the next start makes a recording of it, under the same dialogId and time.
        self._metrics.recordings.labels("failed").inc()
        cdr = {**call.cdr, "recorded": False, "file": None}
        return _Entry(cdr, None, call.ended_monotonic, on_disk=False, recovered=call.recovered)

    def _manifest(self, call: EndedCall, file: WrittenFile) -> Manifest:
        cdr = json.loads(json.dumps(dict(call.cdr), default=str))
        try:
            assert call.manifest_of is not None
            return call.manifest_of(file).model_copy(update={"cdr": cdr})
        except Exception:  # noqa: BLE001 - the recording is durable: a poor manifest keeps it in reach
            _log.exception("manifest_not_made", file=file.path.name)
            self._metrics.storage_errors.labels("manifest").inc()
            return recovered_manifest(recording_name(file.path), file, cdr=cdr)

    def _persist(
        self, operation: str, write: Callable[[], Result], cdr: Mapping[str, Any], back_offs_s: Sequence[float]
    ) -> Result:
        """Write, once more after each of `back_offs_s` if need be. Raises what the last try has raised."""
        attempt = 0
        while True:
            try:
                return write()
            except (StorageError, OSError) as error:
                self._metrics.storage_errors.labels(operation).inc()
                _log.error(f"{operation}_failed", attempt=attempt + 1, error=str(error), **_facts(cdr))
                if attempt == len(back_offs_s) or self._stopping.wait(back_offs_s[attempt]):
                    raise
            attempt += 1

    def _keep_entries(self) -> None:
        open_for_more = True
        back_off_s = INDEX_BACK_OFF_S
        while open_for_more or self._waiting:
            open_for_more = open_for_more and self._gather()
            try:
                if self._waiting:
                    self._enter_in_ledger(self._waiting[:BATCH_CALLS])
                    self._write(self._waiting[:BATCH_CALLS])
                back_off_s = INDEX_BACK_OFF_S
            except Exception as error:  # noqa: BLE001 - the thread outlives a fault: without it nothing is indexed
                self._metrics.storage_errors.labels("index").inc()
                fault = None if isinstance(error, StorageError) else error
                _log.error(
                    "index_failed", waiting=len(self._waiting), retry_s=back_off_s, error=str(error), exc_info=fault
                )
                if self._draining.is_set():
                    if self._stopping.wait(INDEX_BACK_OFF_S):
                        return
                else:
                    self._draining.wait(back_off_s)
                    back_off_s = min(2 * back_off_s, LAST_INDEX_BACK_OFF_S)

    def _gather(self) -> bool:
        """Move what is queued to `_waiting`, or wait for some. Returns False once `stop` has closed the queue."""
        until = time.monotonic() + GATHER_S
        if not self._waiting:
            first = self._to_index.get()
            if first is None:
                return False
            self._waiting.append(first)
            until = time.monotonic() + GATHER_S
        try:
            while len(self._waiting) < BATCH_CALLS:
                wait_s = 0.0 if self._draining.is_set() else max(0.0, until - time.monotonic())
                entry = self._to_index.get(timeout=wait_s)
                if entry is None:
                    return False
                self._waiting.append(entry)
        except queue.Empty:
            pass
        return True

    def _enter_in_ledger(self, batch: list[_Entry]) -> None:
        """Write the lines of `batch`, the head of `_waiting`, once. Raises StorageError."""
        if self._ledger is None:
            return
        # A recording whose manifest could not be written gets both from the next start.
        kept = [
            (entry.manifest, encoded(entry.manifest))
            for entry in batch[self._in_ledger :]
            if entry.manifest is not None and entry.on_disk
        ]
        if kept:
            self._ledger.append(kept)
        self._in_ledger = len(batch)

    def _write(self, batch: list[_Entry]) -> None:
        """Write `batch`, the head of `_waiting`, and drop it from there. Raises StorageError; then the rest is left."""
        try:
            ledger_head = self._ledger.head if self._ledger is not None else None
            self._index.add_calls([(self._lacking(entry), entry.manifest) for entry in batch], ledger_head)
        except EntryError as error:
            if len(batch) > 1:
                for entry in batch:
                    self._write([entry])
                return
            self._give_up(batch[0], error)
        now = time.monotonic()
        for entry in batch:
            self._metrics.finish.observe(now - entry.ended_monotonic)
        del self._waiting[: len(batch)]
        self._in_ledger = max(0, self._in_ledger - len(batch))
        with self._state:
            self._depth -= len(batch)
            self._alarmed = self._alarmed and self._depth > self._alarm_depth // 2
            self._metrics.finish_queue.set(self._depth)
            self._state.notify_all()

    def _lacking(self, entry: _Entry) -> Mapping[str, Any] | None:
        """The CDR, unless the index has it."""
        known = entry.recovered and self._index.has_cdr(str(entry.cdr["id"]), int(entry.cdr["time"]))
        return None if known else entry.cdr

    def _give_up(self, entry: _Entry, error: EntryError) -> None:
        """Log an entry that the index will never take; its CDR still goes in if it was the recording that could not."""
        self._metrics.storage_errors.labels("entry").inc()
        _log.error("entry_refused", error=str(error), cdr=dict(entry.cdr))
        if entry.manifest is not None:
            try:
                if not self._index.has_cdr(str(entry.cdr["id"]), int(entry.cdr["time"])):
                    self._index.add_call(entry.cdr, None)
            except (EntryError, LookupError, TypeError, ValueError) as second:
                _log.error("entry_refused", error=str(second), cdr=dict(entry.cdr))

    def _leave_for_next_start(self) -> None:
        while not self._to_index.empty():
            entry = self._to_index.get()
            if entry is not None:
                self._waiting.append(entry)
        with self._state:
            cdrs = [call.cdr for call in self._unfiled.values()]
        cdrs += [entry.cdr for entry in tuple(self._waiting) if not entry.on_disk]
        if not self._depth:
            return
        _log.error("calls_left_for_next_start", calls=self._depth, cdrs=len(cdrs))
        try:
            if cdrs:
                write_spill(self._folder, cdrs)
        except StorageError as error:
            self._metrics.storage_errors.labels("spill").inc()
            for cdr in cdrs:
                _log.error("cdr_lost", error=str(error), cdr=dict(cdr))


def _is_the_disks(error: Exception) -> bool:
    """Whether the disk has refused, so that trying again may help."""
    cause = error.__cause__ if isinstance(error, StorageError) else error
    return isinstance(cause, OSError) and cause.errno in _DISK_AWAY


def _facts(cdr: Mapping[str, Any]) -> dict[str, Any]:
    return {"dialog_id": cdr.get("id"), "file": cdr.get("file")}
