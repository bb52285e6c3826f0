"""Writing a small file so that after a crash it is there whole, or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from recorder.byte_store import sync_folder
from recorder.errors import StorageError

TEMPORARY_SUFFIX = ".tmp"
FILE_MODE = 0o640  # who called whom is not for everyone to read


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path`: temporary file, fsync, rename, fsync of the folder. Raises StorageError."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        try:
            with os.fdopen(_private(temporary), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written: {error.strerror}; check that its folder is there, writable and not full"
        ) from error


def _private(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
