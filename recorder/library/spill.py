"""CDRs that found no index before the process ended: kept in a file beside the recordings until the next start."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recorder.errors import StorageError
from recorder.library.durable import write_atomically

_PREFIX = "unindexed-"
_SUFFIX = ".cdrs"


def write_spill(folder: Path, cdrs: Sequence[Mapping[str, Any]]) -> Path:
    """Put `cdrs` durably into a new file in `folder`, one JSON object a line. Raises StorageError."""
    path = folder / f"{_PREFIX}{time.time_ns()}{_SUFFIX}"
    lines = [json.dumps(dict(cdr), default=str) + "\n" for cdr in cdrs]
    write_atomically(path, "".join(lines).encode())
    return path


def find_spills(folder: Path) -> list[Path]:
    """List what `write_spill` left in `folder`, oldest first. Raises OSError."""
    return sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"))


def read_spill(path: Path) -> list[dict[str, Any]]:
    """Read the CDRs back. Raises StorageError that says which file."""
    try:
        cdrs = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: the kept CDRs cannot be read: {error}") from error
    if not all(isinstance(cdr, dict) for cdr in cdrs):
        raise StorageError(f"{path}: the kept CDRs cannot be read: a line is not an object")
    return cdrs
