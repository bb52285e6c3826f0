"""Recordings that an earlier process left unfinished and that take long to finish: encoded beside the running calls.

FLAC and Opus take CPU by the minute of talk. After a crash under many long calls that adds up to more than a start may
wait for, so the keeper gets them from here, one at a time, and new calls' files do not stand in line behind them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from recorder import threads
from recorder.errors import RecorderError
from recorder.library.keeper import EndedCall, Keeper
from recorder.library.manifest import AudioFormat, Manifest
from recorder.library.recovery import recording_name, recovered_cdr, recovered_manifest
from recorder.media.encoder import Described
from recorder.media.part_file import WrittenFile
from recorder.retold import completed, completed_cdr

_log = structlog.get_logger()

_SLOW = (".flac.part", ".opus.part")


class Repair(Protocol):
    """What `recorder.media.part_file.repair` does, with everything but the file given."""

    def __call__(self, part: Path) -> WrittenFile: ...


def takes_long(part: Path) -> bool:
    """Whether finishing this recording is more than setting its header right, or a table's work."""
    return part.name.endswith(_SLOW)


def manifest_of(part: Path, written: WrittenFile) -> Manifest:
    """The manifest of what was made of `part`. Raises ValueError for a foreign name."""
    audio = AudioFormat.of(written.file_format, written.sample_rate_hz)
    manifest = recovered_manifest(recording_name(part), written, audio, tags=written.tags)
    return completed(manifest, part.parent)


class Unfinished:
    """Hands `parts` to the keeper, one at a time; `repair` makes a recording of one, `look` says what it will be."""

    def __init__(
        self, parts: Sequence[Path], keeper: Keeper, repair: Repair, look: Callable[[Path], Described]
    ) -> None:
        self._parts = parts
        self._keeper = keeper
        self._repair = repair
        self._look = look
        self._stopping = threading.Event()
        self._free = threading.Event()  # the last one has been made, or could not be
        self._thread = threads.named("unfinished", self._run)

    def start(self) -> None:
        """Begin, if there is anything to do."""
        if self._parts:
            self._thread.start()

    def stop(self) -> None:
        """Hand nothing on any more. What has not been finished is still its `.part`, for the next start."""
        self._stopping.set()
        self._free.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        for part in self._parts:
            self._free.clear()
            if self._stopping.is_set():
                return
            try:
                self._keeper.submit(self._ended_call(part))
            except (RecorderError, ValueError, OSError) as error:
                _log.error("recovery_problem", problem=f"{part}: {error}")
                continue
            self._free.wait()

    def _ended_call(self, part: Path) -> EndedCall:
        found, name = self._look(part), recording_name(part)
        ended_ms = max(part.stat().st_mtime_ns // 1_000_000, name.dialog_timestamp_ms)
        audio = AudioFormat.of(found.file_format, found.sample_rate_hz)
        made_up = recovered_cdr(name, audio, found.tags, ended_ms, found.samples / found.sample_rate_hz)
        cdr = completed_cdr(made_up, part)

        made: list[WrittenFile] = []

        def commit() -> WrittenFile:
            try:
                if not made:  # it comes again for a manifest that could not be written, and the .part is gone then
                    made.append(self._repair(part))
                return made[0]
            finally:
                self._free.set()

        return EndedCall(cdr, commit, lambda _: manifest_of(part, made[0]), time.monotonic(), recovered=True)
