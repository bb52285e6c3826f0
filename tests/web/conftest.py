"""The real application on a real index and real WAV files."""

from __future__ import annotations

import hashlib
import random
import wave
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from recorder.calls.recording_control import Control, Operator
from recorder.errors import NotFoundError
from recorder.identifiers import RecordingName
from recorder.library.audit import AuditTrail
from recorder.library.index import Index
from recorder.library.manifest import LegFacts, Legs, Manifest, NameParts, Parties
from recorder.metrics import Metrics
from recorder.settings import Http, Token
from recorder.web.app import build_app
from recorder.web.services import Services
from recorder.web.tokens import token_sha256

T0 = 1_700_000_000_000


class NoCalls:
    """Nothing to control: what live calls do is tried with a real recorder (tests/endtoend/test_control.py)."""

    async def control(self, _dialog_id: str, _control: Control, _operator: Operator) -> dict[str, Any]:
        raise NotFoundError("there is no such call now")

    async def hang_up(self, _dialog_id: str, _operator: Operator) -> None:
        raise NotFoundError("there is no such call now")


ROLES = ("viewer", "developer", "maintainer", "owner")
Client = TestClient[web.Request, web.Application]
Clients = Callable[[web.Application], Awaitable[Client]]


def bearer(token: str = "viewer-token") -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@dataclass
class Library:
    """What the tests put into the library, by an index of their own on the same file."""

    folder: Path
    index: Index
    added: list[Manifest] = field(default_factory=list)

    def add(
        self, dialog: str = "", group: str = "group", account: str = "account", samples: int = 4000
    ) -> tuple[Manifest, bytes]:
        number = len(self.added)
        name = RecordingName(group, account, T0 + number, dialog or f"{number:032X}")
        path = self.folder / f"{name.stem}.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(random.Random(number).randbytes(2 * samples))
        content = path.read_bytes()
        manifest = Manifest(
            name=NameParts.of(name),
            file_name=path.name,
            duration_s=samples / 8000,
            samples=samples,
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            started_ms=name.dialog_timestamp_ms,
            answered_ms=name.dialog_timestamp_ms + 100,
            ended_ms=name.dialog_timestamp_ms + 600,
            parties=Parties(calling=f"+30210{number:07}", called="8001"),
            legs=Legs(a=LegFacts(sip_call_id=f"{number}-a@host"), b=LegFacts(sip_call_id=f"{number}-b@host")),
        )
        manifest.write(self.folder)
        self.index.add_call(cdr_of(manifest), manifest)
        self.added.append(manifest)
        return manifest, content

    def playbacks(self) -> int:
        totals = self.index.usage_totals(0, 2**62)
        return sum(total.entries for total in totals if total.kind == "playback")


def cdr_of(manifest: Manifest) -> dict[str, Any]:
    return {
        "id": manifest.name.dialog_id,
        "time": manifest.name.dialog_timestamp_ms,
        "group_id": manifest.name.group_id,
        "account_id": manifest.name.account_id,
        "calling": manifest.parties.calling,
        "called": manifest.parties.called,
        "result": "completed",
        "reason": "caller_hangup",
        "answered_ms": manifest.answered_ms,
        "ended_ms": manifest.ended_ms,
        "duration_s": manifest.duration_s,
        "sip_status": None,
        "a_sip_call_id": manifest.legs.a.sip_call_id if manifest.legs.a else None,
        "b_sip_call_id": manifest.legs.b.sip_call_id if manifest.legs.b else None,
        "recorded": True,
        "file": manifest.file_name,
        "details": {"setup_s": 0.1},
    }


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    folder = tmp_path / "recordings"
    folder.mkdir()
    with closing(Index(folder / "index.sqlite")) as index:
        yield Library(folder, index)


@pytest.fixture
def services(library: Library) -> Iterator[Services]:
    async def live_calls() -> list[dict[str, Any]]:
        return [{"dialog_id": "LIVE", "state": "up"}]

    tokens = tuple(Token(name=f"the-{role}", role=role, sha256=token_sha256(f"{role}-token")) for role in ROLES)
    with closing(Index(library.index.path)) as index:
        audit = AuditTrail(index, library.folder, Metrics())
        audit.start()
        yield Services(
            index,
            library.folder,
            Http(tokens=tokens),
            Metrics(),
            live_calls,
            NoCalls(),
            audit.enter,
            {},
        )
        audit.stop(10)


@pytest.fixture
async def client(services: Services, aiohttp_client: Clients) -> Client:
    return await aiohttp_client(build_app(services))
