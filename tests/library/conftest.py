"""Ended calls as the library gets them: a real WAV file, its manifest, its CDR."""

from __future__ import annotations

import hashlib
import itertools
import math
import struct
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recorder.identifiers import RecordingName
from recorder.library.index import Index
from recorder.library.manifest import (
    CommittedFile,
    GapFacts,
    LegFacts,
    Legs,
    Manifest,
    NameParts,
    Parties,
    RedactionFacts,
    WrittenFile,
)

T0 = 1_700_000_000_000


@dataclass(frozen=True)
class SampleCall:
    """One ended call, `number` makes everything of it its own; nothing of it is on disk until asked for."""

    number: int
    name: RecordingName
    samples: int

    @property
    def file_name(self) -> str:
        return f"{self.name.stem}.wav"

    @property
    def cdr(self) -> dict[str, Any]:
        return {
            "id": self.name.dialog_id,
            "time": self.name.dialog_timestamp_ms,
            "group_id": self.name.group_id,
            "account_id": self.name.account_id,
            "calling": f"+30210{self.number:07}",
            "called": "8001",
            "result": "completed",
            "reason": "caller_hangup",
            "answered_ms": self.name.dialog_timestamp_ms + 100,
            "ended_ms": self.name.dialog_timestamp_ms + 100 + self.samples // 8,
            "duration_s": self.samples / 8000,
            "sip_status": None,
            "a_sip_call_id": f"{self.number}-a@192.0.2.1",
            "b_sip_call_id": f"{self.number}-b@192.0.2.2",
            "recorded": True,
            "file": self.file_name,
            "details": {"trunk": "carrier", "setup_s": 0.1},
        }

    @property
    def unrecorded_cdr(self) -> dict[str, Any]:
        return self.cdr | {"recorded": False, "file": None}

    def write_audio(self, folder: Path, ending: str = ".wav") -> CommittedFile:
        path = folder / f"{self.name.stem}{ending}"
        tone = (int(9000 * math.sin(2 * math.pi * 440 * i / 8000)) for i in range(self.samples))
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(b"".join(struct.pack("<h", value) for value in tone))
        content = path.read_bytes()
        return CommittedFile(path, self.samples, len(content), hashlib.sha256(content).hexdigest())

    def manifest_of(self, file: WrittenFile) -> Manifest:
        return self.manifest(bytes=file.bytes, sha256=file.sha256)

    def manifest(self, **changes: Any) -> Manifest:
        started = self.name.dialog_timestamp_ms
        values: dict[str, Any] = {
            "name": NameParts.of(self.name),
            "file_name": self.file_name,
            "duration_s": self.samples / 8000,
            "samples": self.samples,
            "bytes": 44 + 2 * self.samples,
            "sha256": f"{self.number:064x}",
            "started_ms": started,
            "answered_ms": started + 100,
            "ended_ms": started + 100 + self.samples // 8,
            "parties": Parties(calling=self.cdr["calling"], called="8001"),
            "legs": Legs(
                a=LegFacts(sip_call_id=self.cdr["a_sip_call_id"], codec="PCMU", remote_media="192.0.2.1:4000"),
                b=LegFacts(sip_call_id=self.cdr["b_sip_call_id"], codec="PCMA", rx_packets=50, rx_lost=1),
            ),
            "gaps": (GapFacts(leg="a", cause="loss", start_sample=160, samples=160, start_s=0.02, duration_s=0.02),),
            "redactions": (
                RedactionFacts(
                    start_sample=800, samples=80, start_s=0.1, duration_s=0.01, step="pin", control="info", resumed=True
                ),
            ),
        }
        return Manifest(**values | changes)


CallMaker = Callable[..., SampleCall]


@pytest.fixture
def make_call() -> CallMaker:
    """Make calls one millisecond apart: `make_call(group=, account=, dialog=, time=, samples=)`."""
    numbers = itertools.count()

    def make(
        group: str = "group", account: str = "account", dialog: str = "", time: int | None = None, samples: int = 1600
    ) -> SampleCall:
        number = next(numbers)
        name = RecordingName(group, account, T0 + number if time is None else time, dialog or f"{number:032X}")
        return SampleCall(number, name, samples)

    return make


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "index.sqlite")
    yield index
    index.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    return folder
