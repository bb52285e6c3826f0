"""The audit: who did what to which call, when, from where, and what came of it.

Entries go to a file beside the recordings at once, and then to the index, where nothing changes or removes them, by a
thread of their own: whoever acts never waits for the disk. While the index cannot be written they stay in the file, and
follow when it is back.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import time
from collections.abc import Callable, Sequence
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
        actor: application, caller, operator, recorder or command. who: the name of an operator's token, or of the user
            of the machine who gave the command.
        source: the address that it came from, with its port where there is one.
        action: mute, unmute, start, hang_up, play, begin, configure, index, end; of commands verify, decrypt,
            recover, rotate, rotated. shape: by which words it was asked for.
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
    """Takes entries from any thread and keeps them in their order.

    Each is written to a file beside the recordings as soon as it comes, which `kill -9` does not take away, and within
    `GATHER_S` to the index, which a power loss does not either.
    """

    def __init__(self, index: Index, folder: Path, metrics: Metrics) -> None:
        self._index = index
        self._folder = folder
        self._metrics = metrics
        self._queue: queue.SimpleQueue[AuditEntry | Callable[[], None] | None] = queue.SimpleQueue()
        # Owned by the thread.
        self._waiting: list[AuditEntry] = []  # for the index
        self._written = 0  # so many of them are in the file
        self._file: Path | None = None
        self._behind = False  # the file has entries that are not in `_waiting` any more: the index could not be written
        self._retry_at = 0.0
        self._retry_s = RETRY_S
        self._thread = threads.named("audit", self._run)

    def start(self) -> None:
        """Begin to keep entries."""
        self._thread.start()

    def enter(self, entry: AuditEntry) -> None:
        """Take an entry over. Never waits."""
        self._queue.put(entry)

    def when_kept(self, then: Callable[[], None]) -> None:
        """Have the audit's thread call `then` when the end of this process cannot take what was entered before."""
        self._queue.put(then)

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
        """Move what comes to `_waiting` and to the file, or wait for some. Returns False once `stop` was called."""
        idle = not self._behind and not self._waiting
        until = None if idle else self._retry_at
        while len(self._waiting) < BATCH_ENTRIES:
            try:
                first = self._queue.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if not self._take_in(first):
                self._retry_at = 0.0
                return False
            until = until if self._behind else until or time.monotonic() + GATHER_S
        return True

    def _take_in(self, item: AuditEntry | Callable[[], None] | None) -> bool:
        """Write down what is queued, and tell those who wait for that. Returns False at the end."""
        told: list[Callable[[], None]] = []
        with suppress(queue.Empty):
            while item is not None:
                if isinstance(item, AuditEntry):
                    self._waiting.append(item)
                else:
                    told.append(item)
                item = self._queue.get_nowait()
        try:
            self._write_down()
            for then in told:
                then()
        except Exception:  # noqa: BLE001 - as above
            _log.exception("audit_failed")
        return item is not None

    def _write_down(self) -> None:
        """Have what waits in the file, as well as may be: the index takes it in any case."""
        new = self._waiting[self._written :]
        if not new:
            return
        path = self._file or self._folder / f"{_PREFIX}{time.time_ns()}{_SUFFIX}"
        try:
            _append(path, new)
        except OSError as error:
            self._metrics.storage_errors.labels("audit").inc()
            _log.error("audit_only_in_memory", waiting=len(self._waiting), path=str(path), error=error.strerror)
            return
        self._file, self._written = path, len(self._waiting)

    def _keep(self) -> None:
        """Bring what waits to the index; while that fails, let go of what is in the file."""
        if not self._waiting and not self._behind:
            return
        if time.monotonic() >= self._retry_at:
            try:
                if self._behind:
                    restore(self._folder, self._index)
                    self._file, self._written, self._behind = None, 0, False
                refused = _add(self._index, self._waiting)
            except StorageError as error:
                self._metrics.storage_errors.labels("audit").inc()
                _log.error("audit_not_indexed", waiting=len(self._waiting), retry_s=self._retry_s, error=str(error))
                self._retry_at = time.monotonic() + self._retry_s
                self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
            else:
                self._metrics.storage_errors.labels("entry").inc(refused)
                self._retry_s = RETRY_S
                self._forget()
                return
        self._write_down()
        if self._written == len(self._waiting):
            if self._file is not None:
                _sync(self._file)
            self._behind = self._file is not None
            self._waiting.clear()
            self._written = 0

    def _forget(self) -> None:
        """All that waited is in the index."""
        self._waiting.clear()
        self._written = 0
        if self._file is not None:
            with suppress(OSError):  # one that stays is read again, and nothing is entered twice
                self._file.unlink(missing_ok=True)
            self._file = None


def leave(folder: Path, entry: AuditEntry) -> None:
    """Leave an entry in a file of its own, for the next start to bring to the index. Raises StorageError."""
    path = folder / f"{_PREFIX}{time.time_ns()}{_SUFFIX}"
    try:
        _append(path, [entry])
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from error
    _sync(path)


def restore(folder: Path, index: Index) -> int:
    """Bring what files in `folder` hold to the index; returns how many entries. Raises StorageError."""
    count = 0
    for path in sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}")):
        try:
            lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line]
        except (OSError, ValueError) as error:
            raise StorageError(f"{path}: the kept audit cannot be read: {error}") from error
        entries = [entry for entry in map(_read, lines) if entry is not None]
        _add(index, entries)
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


def _add(index: Index, entries: Sequence[AuditEntry]) -> int:
    """Enter all that the index takes; returns how many it does not. Raises StorageError."""
    try:
        index.add_audit(entries)
    except EntryError:
        refused = 0
        for entry in entries:
            try:
                index.add_audit([entry])
            except EntryError as error:
                refused += 1
                _log.error("audit_entry_refused", error=str(error), entry=_as_text(entry))
        return refused
    return 0


def _append(path: Path, entries: Sequence[AuditEntry]) -> None:
    """Add to a file what the process's death cannot take away then; `_sync` is for the machine's."""
    # A line that an append before could not finish, for want of room, stays alone.
    lines = "".join(f"\n{_as_text(entry)}" for entry in entries) + "\n"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE), "ab") as file:
        file.write(lines.encode())


def _sync(path: Path) -> None:
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except OSError as error:
        _log.error("audit_not_durable", path=str(path), error=error.strerror)


def _read(line: str) -> AuditEntry | None:
    try:
        content: Any = json.loads(line)
        return AuditEntry(**{each.name: content[each.name] for each in fields(AuditEntry)})
    except (ValueError, LookupError, TypeError):
        return None
