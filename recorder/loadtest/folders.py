"""Where a test's recorder keeps its recordings and logs."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from recorder.errors import RecorderError, StartError


class Outcome(Protocol):
    """What a test has found so far."""

    notes: list[str]

    @property
    def ok(self) -> bool:
        """Whether it has passed."""


@contextlib.contextmanager
def working_folder(keep: Path | None, outcome: Outcome) -> Iterator[Path]:
    """The working folder: `keep` if given, else one that goes when the test has passed; the notes say where it is.

    Raises:
        StartError: `keep` is not empty.
    """
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise StartError(f"{keep} is not empty; give --keep a folder of its own")
        yield keep.resolve()
        outcome.notes.append(f"Recordings and logs: {keep}")
        return
    folder = Path(tempfile.mkdtemp(prefix="recorder-loadtest-"))
    try:
        yield folder
    except RecorderError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if outcome.ok:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        outcome.notes.append(f"Recordings and logs were left in {folder}")
