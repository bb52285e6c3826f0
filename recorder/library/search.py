"""Finding recordings and CDRs: filters, pages, and the queries they make."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, RowMapping, Select, TableClause, and_, or_, select

from recorder.errors import InvalidRequestError
from recorder.library.schema import AUDIT, CDRS, RECORDINGS

MAX_LIMIT = 500
Entry = TypeVar("Entry")

_SEARCHED = ("calling", "called", "a_sip_call_id", "b_sip_call_id")


@dataclass(frozen=True, slots=True)
class Filters:
    """What a search asks for; every filter that is given must hold.

    `from_ms` (inclusive) and `to_ms` (exclusive) bound the epoch milliseconds of the INVITE. `text` is found anywhere
    in the calling or called party, the dialogId or either leg's SIP Call-ID, in either case of ASCII letters.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    group_id: str | None = None
    account_id: str | None = None
    dialog_id: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Entry]):
    """Some entries, newest first; `next_cursor` leads on to older ones, None at the end."""

    entries: tuple[Entry, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class RecordingEntry:
    """The index's row of a recording. `gaps` and `redactions` are counts; the manifest has them in full."""

    file_name: str
    dialog_id: str
    dialog_timestamp_ms: int
    group_id: str
    account_id: str
    calling: str | None
    called: str | None
    a_sip_call_id: str | None
    b_sip_call_id: str | None
    started_ms: int
    answered_ms: int | None
    ended_ms: int | None
    duration_s: float
    samples: int
    bytes: int
    sha256: str
    gaps: int
    redactions: int
    dropped_samples: int
    recovered: bool


def recordings_query(filters: Filters, limit: int, cursor: str | None) -> Select[Any]:
    """The query of a page of recordings, one row more than `limit`. Raises InvalidRequestError."""
    return _query(RECORDINGS, "dialog_id", "dialog_timestamp_ms", "id", filters, limit, cursor)


def cdrs_query(filters: Filters, limit: int, cursor: str | None) -> Select[Any]:
    """The query of a page of CDRs, one row more than `limit`. Raises InvalidRequestError."""
    return _query(CDRS, "id", "time", "key", filters, limit, cursor)


def audit_query(filters: Filters, limit: int, cursor: str | None) -> Select[Any]:
    """The query of a page of the audit, one row more than `limit`. Raises InvalidRequestError."""
    return _query(AUDIT, "dialog_id", "at_ms", "id", filters, limit, cursor)


def audit_page(rows: Sequence[RowMapping], limit: int) -> Page[dict[str, Any]]:
    """Make a page of what `audit_query` found."""
    return Page(tuple(_audit_entry(row) for row in rows[:limit]), _next_cursor(rows, limit, "at_ms", "id"))


def recording_page(rows: Sequence[RowMapping], limit: int) -> Page[RecordingEntry]:
    """Make a page of what `recordings_query` found."""
    entries = tuple(recording_entry(row) for row in rows[:limit])
    return Page(entries, _next_cursor(rows, limit, "dialog_timestamp_ms", "id"))


def cdr_page(rows: Sequence[RowMapping], limit: int) -> Page[dict[str, Any]]:
    """Make a page of what `cdrs_query` found; each CDR has the keys it was added with."""
    entries = tuple(_cdr(row) for row in rows[:limit])
    return Page(entries, _next_cursor(rows, limit, "time", "key"))


def recording_entry(row: RowMapping) -> RecordingEntry:
    """Read a row of `recordings`."""
    values = {name: row[name] for name in RecordingEntry.__slots__}
    return RecordingEntry(**values | {"recovered": bool(row["recovered"])})


def _cdr(row: RowMapping) -> dict[str, Any]:
    values: dict[str, Any] = {name: row[name] for name in row}
    del values["key"]
    return values | {"recorded": bool(values["recorded"]), "details": json.loads(values["details"])}


def _audit_entry(row: RowMapping) -> dict[str, Any]:
    values: dict[str, Any] = {name: row[name] for name in row if name not in ("id", "uid")}
    return values | {"muted": None if values["muted"] is None else bool(values["muted"])}


def _query(
    source: TableClause, dialog: str, time: str, key: str, filters: Filters, limit: int, cursor: str | None
) -> Select[Any]:
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequestError(f"limit: must be 1 to {MAX_LIMIT}, not {limit}")
    columns = source.c
    wanted: list[ColumnElement[bool]] = []
    if filters.from_ms is not None:
        wanted.append(columns[time] >= filters.from_ms)
    if filters.to_ms is not None:
        wanted.append(columns[time] < filters.to_ms)
    if filters.group_id is not None:
        wanted.append(columns.group_id == filters.group_id)
    if filters.account_id is not None:
        wanted.append(columns.account_id == filters.account_id)
    if filters.dialog_id is not None:
        wanted.append(columns[dialog] == filters.dialog_id)
    if filters.text is not None:
        wanted.append(or_(*(columns[name].contains(filters.text, autoescape=True) for name in (dialog, *_SEARCHED))))
    if cursor is not None:
        before_time, before_key = _read_cursor(cursor)
        older = and_(columns[time] == before_time, columns[key] < before_key)
        # The first condition alone is what the time index can use.
        wanted += [columns[time] <= before_time, or_(columns[time] < before_time, older)]
    return select(*columns).where(*wanted).order_by(columns[time].desc(), columns[key].desc()).limit(limit + 1)


def _next_cursor(rows: Sequence[RowMapping], limit: int, time: str, key: str) -> str | None:
    if len(rows) <= limit:
        return None
    last = rows[limit - 1]
    return base64.urlsafe_b64encode(f"{last[time]}.{last[key]}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[int, int]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    match = re.fullmatch(r"([0-9]{1,18})\.([0-9]{1,18})", text, re.ASCII)
    if match is None:
        raise InvalidRequestError("cursor: is not one that a search returned; search again without it")
    return int(match[1]), int(match[2])
