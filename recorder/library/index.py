"""The index: recordings, CDRs and the usage ledger in one SQLite file, written by few and read by many threads."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection, Update, func, insert, select, update
from sqlalchemy.dialects import sqlite

from recorder.errors import NotFoundError, StorageError
from recorder.library.audit import AuditEntry
from recorder.library.database import BUSY_TIMEOUT_S, BusyError, Database, EntryError, translated
from recorder.library.ledger import Head
from recorder.library.manifest import Manifest
from recorder.library.schema import AUDIT, CDRS, LEDGER, RECORDINGS, USAGE
from recorder.library.search import (
    Filters,
    Page,
    RecordingEntry,
    audit_page,
    audit_query,
    cdr_page,
    cdrs_query,
    recording_entry,
    recording_page,
    recordings_query,
)

_log = structlog.get_logger()

KEPT = "recording"
_CDR_KEYS = tuple(column.name for column in CDRS.c if column.name not in ("key", "details", "recorded"))
_to_json = json.JSONEncoder(default=str).encode
_INSERT_RECORDINGS = insert(RECORDINGS)
_INSERT_CDRS = insert(CDRS)
_INSERT_USAGE = insert(USAGE)
_SET_LEDGER = insert(LEDGER).prefix_with("OR REPLACE")
# One that was left in a file as well may be there already.
_INSERT_AUDIT = sqlite.insert(AUDIT).on_conflict_do_nothing(index_elements=[AUDIT.c.uid])

IndexEntry = tuple[Mapping[str, Any] | None, Manifest | None]


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """The ledger's sum over one kind of use by one account."""

    kind: str
    group_id: str
    account_id: str
    entries: int
    seconds: float
    bytes: int


class Index:
    """The index at `path`, made there when there is none; its folder must exist.

    Any thread may call any method; writers take turns. Raises StorageError, with what to do, when the file cannot be
    used: held by another process, damaged, another program's, or of a newer recorder. A file that is removed or
    replaced while in use is noticed before the next use, which fails; the use after that opens what is there then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing = threading.Lock()
        self._opening = threading.Lock()
        self._database: Database | None = None
        self._opened()

    def add_call(self, cdr: Mapping[str, Any] | None, recording: Manifest | None) -> None:
        """Add one ended call; as `add_calls`."""
        self.add_calls([(cdr, recording)])

    def add_calls(self, batch: Sequence[IndexEntry], ledger_head: Head | None = None) -> None:
        """Add ended calls in one durable transaction: all of them, or none; `ledger_head` is remembered with them.

        A CDR has the keys of `recorder.calls.cdr.CallDetailRecord`; either half of an entry may be None. A recording
        adds its row and one entry to the usage ledger; one that comes without its CDR is entered in that, if the CDR is
        there and says that it was not recorded. Raises EntryError when an entry cannot be taken (a file name
        that is there already, a missing key), StorageError when the index cannot be written.
        """
        try:
            recordings = [_recording_row(manifest) for _, manifest in batch if manifest]
            cdrs = [_cdr_row(cdr) for cdr, _ in batch if cdr is not None]
            kept = [_kept_row(manifest) for _, manifest in batch if manifest]
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise EntryError(f"{self.path}: cannot add a call: {error!r}") from error
        with self._transaction("add calls") as connection:
            if recordings:
                connection.execute(_INSERT_RECORDINGS, recordings)
            if cdrs:
                connection.execute(_INSERT_CDRS, cdrs)
            for cdr, manifest in batch:
                if cdr is None and manifest is not None:
                    connection.execute(_recorded_after_all(manifest))
            if kept:
                connection.execute(_INSERT_USAGE, kept)
            if ledger_head is not None:
                connection.execute(_SET_LEDGER, _ledger_row(ledger_head))

    def remember_ledger(self, head: Head) -> None:
        """Remember the ledger's end, durably. Raises StorageError."""
        with self._transaction("remember the ledger's end") as connection:
            connection.execute(_SET_LEDGER, _ledger_row(head))

    def ledger_head(self) -> Head | None:
        """The end of the ledger as it was last remembered."""
        with self._reading("look up the ledger's end") as connection:
            row = connection.execute(select(LEDGER.c.line, LEDGER.c.offset, LEDGER.c.sha256)).first()
        return Head(*row) if row else None

    def fingerprints(self) -> dict[str, tuple[int, str]]:
        """Size and SHA-256 of every recording, by its file name."""
        columns = (RECORDINGS.c.file_name, RECORDINGS.c.bytes, RECORDINGS.c.sha256)
        with self._reading("list the recordings") as connection:
            return {name: (size, sha256) for name, size, sha256 in connection.execute(select(*columns))}

    def add_access(self, kind: str, who: str, at_ms: int, recording: RecordingEntry) -> None:
        """Enter in the usage ledger, durably, that `who` was handed `recording` (`kind`: playback, export …)."""
        row = {
            "kind": kind,
            "who": who,
            "at_ms": at_ms,
            "seconds": recording.duration_s,
            "bytes": recording.bytes,
            "group_id": recording.group_id,
            "account_id": recording.account_id,
            "file_name": recording.file_name,
        }
        with self._transaction("enter an access") as connection:
            connection.execute(_INSERT_USAGE, [row])

    def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Add entries to the audit in one durable transaction. Raises EntryError and StorageError."""
        if not entries:
            return
        with self._transaction("enter into the audit") as connection:
            connection.execute(_INSERT_AUDIT, [asdict(entry) for entry in entries])

    def search_audit(self, filters: Filters, limit: int = 50, cursor: str | None = None) -> Page[dict[str, Any]]:
        """Find entries of the audit, newest first; `filters` by their own time. Raises InvalidRequestError."""
        query = audit_query(filters, limit, cursor)
        with self._reading("search the audit") as connection:
            return audit_page(connection.execute(query).mappings().all(), limit)

    def last_note(self, action: str) -> str:
        """The note of the newest entry of the audit with this action; "" when there is none."""
        query = select(AUDIT.c.note).where(AUDIT.c.action == action).order_by(AUDIT.c.id.desc()).limit(1)
        with self._reading("look into the audit") as connection:
            return connection.execute(query).scalar() or ""

    def check_writable(self) -> None:
        """Write to the index, durably. Raises StorageError when that fails."""
        with self._transaction("write a probe") as connection:
            connection.exec_driver_sql("INSERT OR REPLACE INTO probe VALUES (1, ?)", (time.time_ns() // 1_000_000,))

    def get(self, dialog_id: str) -> RecordingEntry:
        """Find the newest recording of this dialog. Raises NotFoundError."""
        newest = recordings_query(Filters(dialog_id=dialog_id), 1, None)
        with self._reading("look up a recording") as connection:
            row = connection.execute(newest).mappings().first()
        if row is None:
            raise NotFoundError(f"there is no recording of dialog {dialog_id}")
        return recording_entry(row)

    def search(self, filters: Filters, limit: int = 50, cursor: str | None = None) -> Page[RecordingEntry]:
        """Find recordings, newest first. Raises InvalidRequestError for a limit or cursor that cannot be used."""
        query = recordings_query(filters, limit, cursor)
        with self._reading("search recordings") as connection:
            return recording_page(connection.execute(query).mappings().all(), limit)

    def search_cdrs(self, filters: Filters, limit: int = 50, cursor: str | None = None) -> Page[dict[str, Any]]:
        """Find CDRs, newest first. Raises InvalidRequestError for a limit or cursor that cannot be used."""
        query = cdrs_query(filters, limit, cursor)
        with self._reading("search CDRs") as connection:
            return cdr_page(connection.execute(query).mappings().all(), limit)

    def known_files(self, file_names: Sequence[str]) -> set[str]:
        """Tell which of these recordings have a row."""
        known: set[str] = set()
        with self._reading("look up file names") as connection:
            for start in range(0, len(file_names), 500):
                some = RECORDINGS.c.file_name.in_(file_names[start : start + 500])
                known.update(connection.execute(select(RECORDINGS.c.file_name).where(some)).scalars())
        return known

    def has_cdr(self, cdr_id: str, time_ms: int) -> bool:
        """Tell whether there is a CDR of this dialog and INVITE time."""
        query = select(CDRS.c.key).where(CDRS.c.id == cdr_id, CDRS.c.time == time_ms).limit(1)
        with self._reading("look up a CDR") as connection:
            return connection.execute(query).first() is not None

    def usage_totals(self, from_ms: int, to_ms: int) -> tuple[UsageTotal, ...]:
        """Sum the ledger from `from_ms` (inclusive) to `to_ms` (exclusive), by kind, group and account."""
        by = (USAGE.c.kind, USAGE.c.group_id, USAGE.c.account_id)
        sums = (func.count(), func.sum(USAGE.c.seconds), func.sum(USAGE.c.bytes))
        query = select(*by, *sums).where(USAGE.c.at_ms >= from_ms, USAGE.c.at_ms < to_ms).group_by(*by).order_by(*by)
        with self._reading("sum up the usage") as connection:
            return tuple(UsageTotal(*row) for row in connection.execute(query))

    def close(self) -> None:
        """Close the file. Using the index afterwards opens it again."""
        with self._writing, self._opening:
            self._forget()

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[Connection]:
        if not self._writing.acquire(timeout=2 * BUSY_TIMEOUT_S):
            raise BusyError(f"{self.path}: cannot {doing}: another thread has been writing for too long; try again")
        try:
            with translated(self.path, doing), self._opened().writer.begin() as connection:
                yield connection
        except (BusyError, EntryError):
            raise
        except StorageError:
            # Whatever it was, the next writer opens the file anew: it may have been repaired or put back.
            with self._opening:
                self._forget()
            raise
        finally:
            self._writing.release()

    @contextmanager
    def _reading(self, doing: str) -> Iterator[Connection]:
        with translated(self.path, doing), self._opened().reader.connect() as connection:
            yield connection

    def _opened(self) -> Database:
        with self._opening:
            if self._database is not None and self._database.moved:
                self._forget()
                _log.error("index_gone", path=str(self.path))
                raise StorageError(
                    f"{self.path}: the index was removed or replaced while in use; put it back, "
                    "or run 'recorder recover', which makes it anew from the manifests"
                )
            if self._database is None:
                with translated(self.path, "open the index"):
                    self._database = Database(self.path)
            return self._database

    def _forget(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _recorded_after_all(manifest: Manifest) -> Update:
    """A recording that was repaired, or got its file late, after its CDR had been entered."""
    of_this_call = (
        CDRS.c.id == manifest.name.dialog_id,
        CDRS.c.time == manifest.name.dialog_timestamp_ms,
        CDRS.c.recorded == 0,
    )
    return update(CDRS).where(*of_this_call).values(recorded=1, file=manifest.file_name)


def _recording_row(manifest: Manifest) -> dict[str, Any]:
    name, legs = manifest.name, manifest.legs
    return {
        "file_name": manifest.file_name,
        "dialog_id": name.dialog_id,
        "dialog_timestamp_ms": name.dialog_timestamp_ms,
        "group_id": name.group_id,
        "account_id": name.account_id,
        "calling": manifest.parties.calling,
        "called": manifest.parties.called,
        "a_sip_call_id": legs.a.sip_call_id if legs.a else None,
        "b_sip_call_id": legs.b.sip_call_id if legs.b else None,
        "started_ms": manifest.started_ms,
        "answered_ms": manifest.answered_ms,
        "ended_ms": manifest.ended_ms,
        "duration_s": manifest.duration_s,
        "samples": manifest.samples,
        "bytes": manifest.bytes,
        "sha256": manifest.sha256,
        "gaps": len(manifest.gaps),
        "redactions": len(manifest.redactions),
        "dropped_samples": manifest.dropped_samples,
        "recovered": int(manifest.recovered),
    }


def _cdr_row(cdr: Mapping[str, Any]) -> dict[str, Any]:
    row = {key: cdr[key] for key in _CDR_KEYS}
    row["recorded"] = int(cdr["recorded"])
    row["details"] = _to_json(cdr["details"])
    return row


def _ledger_row(head: Head) -> dict[str, Any]:
    return {"id": 1, "line": head.line, "offset": head.offset, "sha256": head.sha256}


def _kept_row(manifest: Manifest) -> dict[str, Any]:
    return {
        "kind": KEPT,
        "who": "recorder",
        "at_ms": manifest.started_ms,
        "seconds": manifest.duration_s,
        "bytes": manifest.bytes,
        "group_id": manifest.name.group_id,
        "account_id": manifest.name.account_id,
        "file_name": manifest.file_name,
    }
