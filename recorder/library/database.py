"""The SQLite file under the index: opening it, noticing that it is gone, and what each of its failures asks for."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError, StatementError
from sqlalchemy.pool import QueuePool

from recorder.errors import StorageError
from recorder.library.durable import FILE_MODE
from recorder.library.schema import bring_up_to_date

BUSY_TIMEOUT_S = 2.0

_DAMAGED = "it is damaged; move it away and run 'recorder recover', which makes it anew from the manifests"
_ADVICE = {
    "SQLITE_BUSY": "another process holds it; end that process, or wait until it is done",
    "SQLITE_FULL": "the disk is full; free space on it",
    "SQLITE_READONLY": "it may not be written here; give this user write access to the file and its folder",
    "SQLITE_CANTOPEN": "it cannot be opened; check that its folder exists and that this user may write there",
    "SQLITE_PERM": "it cannot be opened; give this user access to the file and its folder",
    "SQLITE_IOERR": "the disk reports an error; check the disk and its space",
    "SQLITE_NOTADB": _DAMAGED,
    "SQLITE_CORRUPT": _DAMAGED,
}


class BusyError(StorageError):
    """Someone else has been writing to the index for too long. It is well, and worth another try as it is."""


class EntryError(StorageError):
    """One entry that the index cannot take, now or later; the index itself is well."""


class Database:
    """One opened SQLite file: an engine that writes (one connection) and one that reads (several).

    Not for longer than the file is at its path: `moved` tells. SQLite would go on writing into a removed file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with suppress(OSError):  # SQLite says better what is wrong
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        self.writer = _engine(path, "rwc", 1, ("journal_mode = WAL", "synchronous = FULL", "temp_store = MEMORY"))
        self._identity: tuple[int, int] | None = None
        self._log_path = path.with_name(path.name + "-wal")
        self._log_identity: tuple[int, int] | None = None
        self.reader = _engine(path, "rw", 4, ("query_only = ON",))
        event.listen(self.writer, "begin", _begin_immediate)
        try:
            with self.writer.begin() as connection:
                bring_up_to_date(connection, path)
            self._identity = _identity(path)
            self._log_identity = _identity(self._log_path)
        except BaseException:
            self.close()
            raise

    @property
    def moved(self) -> bool:
        """Whether the file at the path is no longer the one that was opened."""
        return self._identity is None or _identity(self.path) != self._identity

    def close(self) -> None:
        """Close every connection that is not in use; the last one folds the write-ahead log into the file."""
        moved = self.moved
        self.reader.dispose()
        self.writer.dispose()
        # SQLite would apply the log of a file that is gone to the one that has taken its place.
        if moved and self._log_identity is not None and _identity(self._log_path) == self._log_identity:
            self._log_path.unlink(missing_ok=True)
            self.path.with_name(self.path.name + "-shm").unlink(missing_ok=True)


@contextmanager
def translated(path: Path, doing: str) -> Iterator[None]:
    """Turn what the database raises into StorageError with what to do, or EntryError when the entry is at fault."""
    try:
        yield
    except (OverflowError, UnicodeEncodeError) as error:
        raise EntryError(f"{path}: cannot {doing}: {error}") from error
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, StatementError) and error.orig is not None else error
        raise _translation(path, doing, cause) from error
    except (sqlite3.Error, OSError) as error:
        raise _translation(path, doing, error) from error


def _translation(path: Path, doing: str, cause: BaseException) -> StorageError:
    # "SQLITE_IOERR_WRITE" and its like: the first two words are the kind.
    kind = "_".join(str(getattr(cause, "sqlite_errorname", "")).split("_")[:2])
    # The driver names a value of a type it cannot store InterfaceError up to Python 3.11, ProgrammingError from 3.12.
    if isinstance(cause, sqlite3.IntegrityError) or "binding parameter" in str(cause):
        return EntryError(f"{path}: cannot {doing}: {cause}")
    advice = f": {_ADVICE[kind]}" if kind in _ADVICE else ""
    return (BusyError if kind == "SQLITE_BUSY" else StorageError)(f"{path}: cannot {doing}: {cause}{advice}")


def _engine(path: Path, mode: str, connections: int, pragmas: tuple[str, ...]) -> Engine:
    uri = f"file:{quote(str(path.resolve()))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        # isolation_level None: the driver begins nothing by itself; SQLAlchemy's events do.
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in pragmas:
                answer = connection.execute(f"PRAGMA {pragma}").fetchone()
                if pragma == "journal_mode = WAL" and answer != ("wal",):
                    raise StorageError(
                        f"{path}: this file system has no write-ahead log; put library.index on a local disk"
                    )
        except BaseException:
            connection.close()
            raise
        return connection

    return create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_S,
    )


def _begin_immediate(connection: Connection) -> Any:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
