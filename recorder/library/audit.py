"""The audit: who did what to which call, when, from where, and what came of it.

Entries go to the index, where nothing changes or removes them, by a thread of their own: whoever acts never waits for
the disk. While the index cannot be written they are kept in a file beside the recordings, and follow when it is back.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from recorder import threads
from recorder.byte_store import sync_folder
from recorder.errors import StorageError
from recorder.library.database import EntryError
from recorder.library.durable import FILE_MODE
from recorder.metrics import Metrics

if TYPE_CHECKING:
    from recorder.library.index import Index

_log = structlog.get_logger()

GATHER_S = 0.05
BATCH_ENTRIES = 500
RETRY_S = 1.0
LAST_RETRY_S = 30.0
_PREFIX = "unindexed-"
_SUFFIX = ".audit"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act, done or refused.

    Attributes:
        actor: application, caller, operator or recorder. who: the name of an operator's token.
        source: the address that it came from, with its port where there is one.
        action: mute, unmute, start, hang_up, play, begin or end. shape: by which words it was asked for.
        step: the sensitive step. sip_call_id: of the leg that it came on.
        result: accepted or refused; `reason`: why it was refused, in a word.
        muted: whether the call's recording was silent then; None where that is not the question.
        note: what the operator said of it.
        uid: tells an entry that was kept twice, in the index and in a file, from two acts.
    """

    actor: str
    action: str
    result: str = "accepted"
    reason: str = ""
    who: str = ""
    source: str = ""
    dialog_id: str | None = None
    group_id: str | None = None
    account_id: str | None = None
    sip_call_id: str | None = None
    step: str = ""
    shape: str = ""
    muted: bool | None = None
    note: str = ""
    at_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    uid: str = field(default_factory=lambda: secrets.token_hex(12))


class AuditTrail:
    """Takes entries from any thread and keeps them in their order."""

    def __init__(self, index: Index, folder: Path, metrics: Metrics) -> None:
        self._index = index
        self._folder = folder
        self._metrics = metrics
        self._queue: queue.SimpleQueue[AuditEntry | None] = queue.SimpleQueue()
        # Owned by the thread.
        self._waiting: list[AuditEntry] = []
        self._spill: Path | None = None  # there while the index cannot be written
        self._retry_at = 0.0
        self._retry_s = RETRY_S
        self._thread = threads.named("audit", self._run)

    def start(self) -> None:
        """Begin to keep entries."""
        self._thread.start()

    def enter(self, entry: AuditEntry) -> None:
        """Take an entry over. Never waits."""
        self._queue.put(entry)

    def stop(self, timeout_s: float) -> None:
        """Keep what has been entered, and end the thread."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        more = True
        while more:
            more = self._gather()
            try:
                self._keep()
            except Exception:  # noqa: BLE001 - the thread outlives a fault in what it was handed
                self._metrics.storage_errors.labels("audit").inc()
                _log.exception("audit_failed")

    def _gather(self) -> bool:
        """Move what is queued to `_waiting`, or wait for some. Returns False once `stop` has closed the queue."""
        idle = self._spill is None and not self._waiting
        with suppress(queue.Empty):
            entry = self._queue.get(timeout=None if idle else max(0.01, self._retry_at - time.monotonic()))
            until = time.monotonic() + GATHER_S
            while entry is not None:
                self._waiting.append(entry)
                if len(self._waiting) >= BATCH_ENTRIES:
                    return True
                entry = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            self._retry_at = 0.0
            return False
        return True

    def _keep(self) -> None:
        if time.monotonic() >= self._retry_at:
            try:
                if self._spill is not None:
                    restore(self._folder, self._index)
                    self._spill = None
                self._index.add_audit(self._waiting)
            except EntryError:
                self._keep_each()
            except StorageError as error:
                self._metrics.storage_errors.labels("audit").inc()
                _log.error("audit_not_indexed", waiting=len(self._waiting), retry_s=self._retry_s, error=str(error))
                self._retry_at = time.monotonic() + self._retry_s
                self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
            else:
                self._waiting.clear()
                self._retry_s = RETRY_S
                return
        self._leave_in_file()

    def _keep_each(self) -> None:
        for entry in self._waiting:
            try:
                self._index.add_audit([entry])
            except EntryError as error:
                self._metrics.storage_errors.labels("entry").inc()
                _log.error("audit_entry_refused", error=str(error), entry=_as_text(entry))
        self._waiting.clear()

    def _leave_in_file(self) -> None:
        if not self._waiting:
            return
        path = self._spill or self._folder / f"{_PREFIX}{time.time_ns()}{_SUFFIX}"
        try:
            _append(path, self._waiting)
        except OSError as error:
            self._metrics.storage_errors.labels("audit").inc()
            _log.error("audit_only_in_memory", waiting=len(self._waiting), path=str(path), error=error.strerror)
            self._retry_at = self._retry_at or time.monotonic() + RETRY_S
            return
        self._spill = path
        self._waiting.clear()


def restore(folder: Path, index: Index) -> int:
    """Bring what files in `folder` hold to the index; returns how many entries. Raises StorageError."""
    count = 0
    for path in sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}")):
        try:
            lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line]
        except (OSError, ValueError) as error:
            raise StorageError(f"{path}: the kept audit cannot be read: {error}") from error
        entries = [entry for entry in map(_read, lines) if entry is not None]
        index.add_audit(entries)
        count += len(entries)
        try:
            if len(entries) == len(lines):
                path.unlink()
            else:  # a line that was not written whole: somebody has to look at it
                path.rename(path.with_suffix(".damaged"))
                _log.error("audit_damaged", path=str(path), lines=len(lines) - len(entries))
        except OSError as error:
            raise StorageError(f"{path}: cannot be removed: {error.strerror}") from error
    return count


def _as_text(entry: AuditEntry) -> str:
    return json.dumps(asdict(entry), separators=(",", ":"))


def _append(path: Path, entries: Sequence[AuditEntry]) -> None:
    # A line that an append before could not finish, for want of room, stays alone.
    lines = "".join(f"\n{_as_text(entry)}" for entry in entries) + "\n"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE), "ab") as file:
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def _read(line: str) -> AuditEntry | None:
    try:
        content: Any = json.loads(line)
        return AuditEntry(**{each.name: content[each.name] for each in fields(AuditEntry)})
    except (ValueError, LookupError, TypeError):
        return None
