"""What there is in the recordings' folder."""

from __future__ import annotations

import os
from pathlib import Path

from recorder.errors import StorageError


def file_names(folder: Path) -> list[str]:
    """List the names of the files in `folder`, sorted. Raises StorageError."""
    # There may be a million, all of them known: no Path is made of a name that is not looked at.
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
    except OSError as error:
        raise StorageError(f"{folder}: the recordings' folder cannot be read: {error.strerror}") from error
