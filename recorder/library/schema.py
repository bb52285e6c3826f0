"""The index's tables, and the steps that bring an older index up to them.

A step, once released, never changes: the next version adds another. `RECORDINGS` and the like name
the columns of the newest version for the queries; a test holds them against what the steps make.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, TableClause, column, table

from recorder.errors import StorageError

# "RECD": tells our index from another program's SQLite file.
APPLICATION_ID = 0x52454344

_VERSION_1 = (
    """
    CREATE TABLE recordings (
        id INTEGER PRIMARY KEY,
        file_name TEXT NOT NULL UNIQUE,
        dialog_id TEXT NOT NULL,
        dialog_timestamp_ms INTEGER NOT NULL,
        group_id TEXT NOT NULL,
        account_id TEXT NOT NULL,
        calling TEXT,
        called TEXT,
        a_sip_call_id TEXT,
        b_sip_call_id TEXT,
        started_ms INTEGER NOT NULL,
        answered_ms INTEGER,
        ended_ms INTEGER,
        duration_s REAL NOT NULL,
        samples INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        gaps INTEGER NOT NULL,
        redactions INTEGER NOT NULL,
        dropped_samples INTEGER NOT NULL,
        recovered INTEGER NOT NULL
    )
    """,
    "CREATE INDEX recordings_dialog ON recordings (dialog_id)",
    "CREATE INDEX recordings_time ON recordings (dialog_timestamp_ms)",
    # Each ends in the time, so a page of one group or account is read in order, never sorted.
    "CREATE INDEX recordings_group ON recordings (group_id, dialog_timestamp_ms)",
    "CREATE INDEX recordings_account ON recordings (account_id, dialog_timestamp_ms)",
    # A dialogId that a trunk maps from a header may come again: a CDR has a key of its own.
    """
    CREATE TABLE cdrs (
        key INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        time INTEGER NOT NULL,
        group_id TEXT NOT NULL,
        account_id TEXT NOT NULL,
        calling TEXT NOT NULL,
        called TEXT NOT NULL,
        result TEXT NOT NULL,
        reason TEXT NOT NULL,
        answered_ms INTEGER,
        ended_ms INTEGER NOT NULL,
        duration_s REAL NOT NULL,
        sip_status INTEGER,
        a_sip_call_id TEXT,
        b_sip_call_id TEXT,
        recorded INTEGER NOT NULL,
        file TEXT,
        details TEXT NOT NULL
    )
    """,
    "CREATE INDEX cdrs_id ON cdrs (id)",
    "CREATE INDEX cdrs_time ON cdrs (time)",
    "CREATE INDEX cdrs_group ON cdrs (group_id, time)",
    "CREATE INDEX cdrs_account ON cdrs (account_id, time)",
    """
    CREATE TABLE usage (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        who TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        seconds REAL NOT NULL,
        bytes INTEGER NOT NULL,
        group_id TEXT NOT NULL,
        account_id TEXT NOT NULL,
        file_name TEXT NOT NULL
    )
    """,
    "CREATE INDEX usage_time ON usage (at_ms)",
    # A recording is kept, and so billed, once.
    "CREATE UNIQUE INDEX usage_kept ON usage (file_name) WHERE kind = 'recording'",
    "CREATE TABLE probe (id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL)",
)

# The end of the ledger when a recording was last entered, so that a ledger that is cut is found: one row.
_VERSION_2 = (
    """
    CREATE TABLE ledger (
        id INTEGER PRIMARY KEY,
        line INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        sha256 TEXT NOT NULL
    )
    """,
)

_VERSION_3 = (
    """
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY,
        uid TEXT NOT NULL UNIQUE,
        at_ms INTEGER NOT NULL,
        actor TEXT NOT NULL,
        who TEXT NOT NULL,
        source TEXT NOT NULL,
        action TEXT NOT NULL,
        shape TEXT NOT NULL,
        step TEXT NOT NULL,
        dialog_id TEXT,
        group_id TEXT,
        account_id TEXT,
        sip_call_id TEXT,
        result TEXT NOT NULL,
        reason TEXT NOT NULL,
        muted INTEGER,
        note TEXT NOT NULL
    )
    """,
    "CREATE INDEX audit_time ON audit (at_ms)",
    "CREATE INDEX audit_dialog ON audit (dialog_id, at_ms)",
    """
    CREATE TRIGGER audit_unchanged BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit is only added to'); END
    """,
    """
    CREATE TRIGGER audit_kept BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit is only added to'); END
    """,
)

STEPS: tuple[tuple[str, ...], ...] = (_VERSION_1, _VERSION_2, _VERSION_3)
SCHEMA_VERSION = len(STEPS)


def _table(name: str, columns: str) -> TableClause:
    return table(name, *(column(each) for each in columns.split()))


RECORDINGS = _table(
    "recordings",
    "id file_name dialog_id dialog_timestamp_ms group_id account_id calling called a_sip_call_id b_sip_call_id"
    " started_ms answered_ms ended_ms duration_s samples bytes sha256 gaps redactions dropped_samples recovered",
)
CDRS = _table(
    "cdrs",
    "key id time group_id account_id calling called result reason answered_ms ended_ms duration_s sip_status"
    " a_sip_call_id b_sip_call_id recorded file details",
)
USAGE = _table("usage", "id kind who at_ms seconds bytes group_id account_id file_name")
LEDGER = _table("ledger", "id line offset sha256")

AUDIT = _table(
    "audit",
    "id uid at_ms actor who source action shape step dialog_id group_id account_id sip_call_id result reason muted"
    " note",
)


def bring_up_to_date(connection: Connection, path: Path) -> None:
    """Make the tables, or carry out the steps that the index lacks, inside the caller's transaction.

    Raises StorageError when the file at `path` is another program's, or of a newer recorder.
    """
    application = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if application != APPLICATION_ID:
        tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
        if application or version or tables:
            raise StorageError(f"{path}: is another program's database; name another file in library.index")
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"{path}: the index has schema version {version}, and this recorder knows {SCHEMA_VERSION} at most; "
            "start the newer recorder that wrote it, or name another file in library.index and run 'recorder recover'"
        )
    for step in STEPS[version:]:
        for statement in step:
            connection.exec_driver_sql(statement)
    if version != SCHEMA_VERSION:
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
