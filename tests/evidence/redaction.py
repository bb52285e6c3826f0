"""Generated calls with sensitive steps, and the judgement of what was recorded of them.

Everybody speaks in constant levels. The caller's tell the packet's number modulo 32, the application's is always the
same; while the application is in a step both are loud as nothing else is. So a single loud sample anywhere is a leak,
and every packet of the caller's that is not in the recording is known.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recorder.loadtest.subject import Subject
from recorder.media.marker import PEAK
from recorder.media.mixer import mix
from recorder.media.wav_header import HEADER_BYTES
from tests.peers.background import Background
from tests.peers.crowd import PACKET_S, Choir, Dialog, Switch, Voice
from tests.tones import RATE, Samples, read_wav

GUARD_BEFORE_S, GUARD_AFTER_S = 0.300, 0.060
LOUD = 9000
PACKET = 160


def linear(code: int) -> int:
    """What a mu-law code stands for (ITU-T G.711)."""
    turned = ~code & 0xFF
    size = ((((turned & 0x0F) << 3) + 0x84) << (turned >> 4 & 7)) - 0x84
    return -size if turned & 0x80 else size


CODES = range(0xA0, 0xC0)  # levels from 1884 to 7932, at least 128 apart
APPLICATION_CODE = 0xF8  # 56: between two levels of the caller it changes nothing
SECRET_CODES = {"a": 0x98, "b": 0x99}  # 11900, 11388; 22900 mixed
GUARDED_CODES = {"a": 0x9A, "b": 0x9B}  # 10876, 10364: as secret, but said before the recorder had answered
LEVELS = np.array([linear(code) for code in CODES])
APPLICATION_LEVEL = linear(APPLICATION_CODE)
AUDIBLE = (PEAK + APPLICATION_LEVEL + int(LEVELS.min())) // 2

ACCOUNTS: dict[str, dict[str, Any]] = {
    "1": {"redaction": {"mode": "mute"}},
    "2": {"redaction": {"mode": "pause"}},
    "3": {"redaction": {"mode": "tone"}},
    "4": {"redaction": {"mode": "mute"}, "format": {"channels": "stereo"}},
    "5": {"redaction": {"mode": "pause"}, "format": {"channels": "stereo", "encoding": "ulaw"}},
    "6": {"redaction": {"mode": "tone"}, "format": {"channels": "stereo"}, "dtmf": "remove"},
}


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that happens `at_s` after the answer. `step` is a step's name or, of a hold, its direction."""

    at_s: float
    what: str
    step: str = ""
    copies: int = 1


@dataclass(frozen=True, slots=True)
class Script:
    """One call. `early`: it is already sensitive when the application sends its first INFO, and not with its answer."""

    number: int
    account: str
    length_s: float
    early: bool
    muted_before_answer: bool
    deeds: tuple[Deed, ...]

    @property
    def is_plain(self) -> bool:
        """Whether the same two speak all the time."""
        return not any(deed.what.startswith(("hold", "resume", "transfer")) for deed in self.deeds)


def generate(number: int) -> Script:
    """The script of this number, always the same."""
    draw = random.Random(number)
    length_s = draw.uniform(3.0, 4.5)
    deeds: list[Deed] = []

    def step_of(name: str, begin_s: float, end_s: float | None, by: str = "") -> None:
        copies = draw.choice((1, 1, 2, 3))
        deeds.append(Deed(begin_s, f"{by}mute", name, copies))
        if draw.random() < 0.2:
            deeds.append(Deed(begin_s + 0.05, f"{by}mute", name))
        if end_s is not None:
            deeds.append(Deed(end_s, f"{by}unmute", name, draw.choice((1, 1, 2))))

    names = draw.sample(["", "card", "pin", "cvv"], k=draw.choice((1, 1, 2, 2, 3)))
    before = draw.random() < 0.15
    if before:
        deeds.append(Deed(draw.uniform(0.3, 2.0), "unmute", "before"))
    for name in names:
        begin_s = 0.0 if draw.random() < 0.1 else draw.uniform(0.5, length_s - 1.2)
        chance = draw.random()
        end_s = None if chance < 0.12 else length_s if chance < 0.22 else draw.uniform(begin_s + 0.1, length_s - 0.3)
        step_of(name, begin_s, end_s)
    if draw.random() < 0.25:
        begin_s = draw.uniform(0.5, length_s - 1.0)
        step_of("operator", begin_s, draw.uniform(begin_s + 0.1, length_s - 0.3), by="operator_")
    for what, chance in (("wrong_side", 0.4), ("unknown", 0.3), ("press", 0.3)):
        if draw.random() < chance:
            deeds.append(Deed(draw.uniform(0.2, length_s - 0.3), what, draw.choice(names)))
    chance = draw.random()
    if chance < 0.25:
        side, direction = draw.choice("ab"), draw.choice(("sendonly", "inactive"))
        begin_s = draw.uniform(0.4, length_s - 1.6)
        deeds.append(Deed(begin_s, f"hold_{side}", direction))
        deeds.append(Deed(begin_s + draw.uniform(0.5, 1.0), f"resume_{side}"))
    elif chance < 0.45:
        deeds.append(Deed(draw.uniform(0.4, length_s - 1.5), f"transfer_{draw.choice('ab')}"))
    account = draw.choice(sorted(ACCOUNTS))
    in_order = tuple(sorted(deeds, key=lambda deed: deed.at_s))
    return Script(number, account, length_s, draw.random() < 0.5, before, in_order)


@dataclass(slots=True)
class Stage:
    """A call that is played: who is on it, what has been asked for and when, by time.monotonic."""

    script: Script
    secret: str
    caller: Dialog | None = None
    application: Dialog | None = None
    open_steps: set[tuple[str, str]] = field(default_factory=set)
    sensitive: list[list[float]] = field(default_factory=list)  # [begin, end)
    asked: list[tuple[float, float]] = field(default_factory=list)  # when a silence was sent for, and answered
    ended: list[tuple[float, float]] = field(default_factory=list)  # the same of its end
    quiet: set[str] = field(default_factory=set)  # who does not send, because of a hold
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    trouble: list[str] = field(default_factory=list)
    spoken: list[Voice] = field(default_factory=list)
    asking_since: float = float("inf")  # of the begin of a silence that is not answered yet
    answered_s: float = 0.0
    hung_up_s: float = 0.0

    @property
    def dialog_id(self) -> str:
        """The call's identity."""
        return f"{self.script.number:032X}"

    @property
    def slowest_s(self) -> float:
        """The longest that an answer took to what begins a silence."""
        return max((answered - sent for sent, answered in self.asked), default=0.0)

    def is_sensitive(self, moment: float) -> bool:
        """Whether what is said at this moment must not be recorded."""
        return any(begin <= moment < end for begin, end in self.sensitive)

    def code_of(self, side: str, number: int, moment: float) -> int:
        """What this side says then in its packet of this number."""
        if self.is_sensitive(moment):
            held = any(sent <= moment < answered for sent, answered in self.asked) or self.asking_since <= moment
            return (GUARDED_CODES if held else SECRET_CODES)[side]
        return CODES[number % len(CODES)] if side == "a" else APPLICATION_CODE

    def voice(self, side: str) -> Voice:
        """A voice of this call."""

        def payload(number: int, due_s: float) -> bytes | None:
            if side in self.quiet:
                return None
            return bytes([self.code_of(side, number, due_s)]) * PACKET

        made = Voice(payload)
        self.spoken.append(made)
        return made


class Theatre:
    """Plays scripts through a running recorder, many at once. Use within `async with`."""

    def __init__(self, subject: Subject, choir: Choir) -> None:
        self.subject, self._choir = subject, choir
        self._callers = Switch(("127.0.0.1", subject.sip_port))
        self._applications = Switch(("127.0.0.1", subject.sip_port))

    async def __aenter__(self) -> Theatre:
        await self._callers.listen()
        await self._applications.listen(self.subject.application_port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._callers.close()
        self._applications.close()

    async def play(self, script: Script) -> Stage:
        """One call, from its INVITE to its BYE."""
        stage = Stage(script, f"{random.Random(script.number).randrange(10**15, 10**16)}")
        number = f"{script.account}{script.number:05d}"
        caller_voice, application_voice = stage.voice("a"), stage.voice("b")
        called = self._applications.will_be_called(number, self._choir.join(application_voice))
        calling = asyncio.create_task(
            self._callers.call(number, self._choir.join(caller_voice), f"X-Dialog-Id: {stage.dialog_id}")
        )
        try:
            stage.application = await asyncio.wait_for(called, 10)
            await stage.application.ring()
            if script.muted_before_answer:
                await self._control(stage, Deed(0, "mute", "before"))
            await stage.application.answer()
            stage.caller = await calling
            stage.answered_s = stage.caller.answered_s or 0.0
            await self._act(stage)
        finally:
            calling.cancel()
            for voice in stage.spoken:
                self._choir.leave(voice)
        return stage

    async def _act(self, stage: Stage) -> None:
        transfers: list[asyncio.Task[None]] = []
        for deed in stage.script.deeds:
            await asyncio.sleep(max(0.0, stage.answered_s + deed.at_s - time.monotonic()))
            if deed.what.startswith("transfer"):
                transfers.append(asyncio.create_task(self._transfer(stage, deed.what[-1])))
                continue
            async with stage.lock:
                await self._do(stage, deed)
        await asyncio.sleep(max(0.0, stage.answered_s + stage.script.length_s - time.monotonic()))
        for transfer in transfers:
            await transfer
        assert stage.caller is not None
        assert stage.application is not None
        stage.hung_up_s = time.monotonic()
        await stage.caller.request("BYE")
        await asyncio.wait_for(stage.application.ended.wait(), 10)

    async def _do(self, stage: Stage, deed: Deed) -> None:
        caller, application = stage.caller, stage.application
        assert caller is not None
        assert application is not None
        if deed.what in ("mute", "unmute"):
            await self._control(stage, deed)
        elif deed.what.startswith("operator"):
            await self._operate(stage, deed)
        elif deed.what == "wrong_side":
            for body in ({"action": "unmute", "step": deed.step}, {"action": "mute", "step": "his-own"}):
                response = await caller.request("INFO", "Content-Type: application/json", json.dumps(body).encode())
                if response.code != 403:
                    stage.trouble.append(f"the caller's control was answered {response.start}")
        elif deed.what == "unknown" and any(by == "application" for by, _ in stage.open_steps):
            body = json.dumps({"action": "unmute", "step": "nobody-began-it"}).encode()
            response = await application.request("INFO", "Content-Type: application/json", body)
            if response.code < 400:
                stage.trouble.append(f"the end of no step was answered {response.start}")
        elif deed.what == "press":
            body = f"Signal={stage.secret}\r\nDuration=160\r\n".encode()
            await caller.request("INFO", "Content-Type: application/dtmf-relay", body)
        elif deed.what.startswith("hold"):
            side = deed.what[-1]
            stage.quiet |= {"a", "b"} if deed.step == "inactive" else {"b" if side == "a" else "a"}
            await self._reinvite(stage, side, deed.step)
        elif deed.what.startswith("resume"):
            await self._reinvite(stage, deed.what[-1], "sendrecv")
            stage.quiet.clear()

    async def _reinvite(self, stage: Stage, side: str, direction: str) -> None:
        dialog = stage.caller if side == "a" else stage.application
        assert dialog is not None
        while True:
            response = await dialog.request("INVITE", "Content-Type: application/sdp", dialog.sdp(direction))
            if response.code != 491:
                break
            await asyncio.sleep(0.3)
        if response.code != 200:
            stage.trouble.append(f"{direction} was answered {response.start}")

    async def _control(self, stage: Stage, deed: Deed) -> None:
        """The application says that a step begins or ends."""
        application = stage.application
        assert application is not None
        if deed.step:
            headers, body = "Content-Type: application/json", {"action": deed.what, "step": deed.step}
            asking = application.request("INFO", headers, json.dumps(body).encode(), copies=deed.copies)
        else:
            asking = application.request(
                "INFO", f"Record: {'off' if deed.what == 'mute' else 'on'}", copies=deed.copies
            )
        code = await self._changing(stage, deed.what == "mute", ("application", deed.step), asking)
        if code != 200:
            stage.trouble.append(f"{deed.what} {deed.step!r} was answered {code}")

    async def _operate(self, stage: Stage, deed: Deed) -> None:
        """The operator says so, by the API."""
        verb = deed.what.removeprefix("operator_")

        async def asking() -> int:
            return await asyncio.to_thread(self.operate, stage.dialog_id, verb, deed.step)

        code = await self._changing(stage, verb == "mute", ("operator", deed.step), asking())
        if code >= 300:
            stage.trouble.append(f"the operator's {verb} was answered {code}")

    def operate(self, dialog_id: str, verb: str, step: str) -> int:
        """Send an operator's request; returns its status."""
        api = self.subject.api
        connection = http.client.HTTPConnection(api.host, api.port, timeout=10)
        try:
            headers = {"Authorization": f"Bearer {api.token}"}
            connection.request("POST", f"/api/v1/calls/{dialog_id}/{verb}", json.dumps({"step": step}), headers)
            return connection.getresponse().status
        finally:
            connection.close()

    async def _changing(self, stage: Stage, begins: bool, step: tuple[str, str], asking: Any) -> int:
        """Have a step begin or end; what is said is sensitive from the first that is open to the last."""
        sent = self._choir.catch_up()  # what was said before is sent before, however late this machine is with it
        first, last = begins and not stage.open_steps, not begins and stage.open_steps == {step}
        if begins:
            stage.open_steps.add(step)
        else:
            stage.open_steps.discard(step)
        if first:
            stage.asking_since = sent
        if first and stage.script.early:
            stage.sensitive.append([sent, float("inf")])
        if last:
            stage.sensitive[-1][1] = sent
        answer = await asking
        answered = time.monotonic()
        if first:
            stage.asked.append((sent, answered))
            stage.asking_since = float("inf")
            if not stage.script.early:
                stage.sensitive.append([answered, float("inf")])
        if last:
            stage.ended.append((sent, answered))
        return int(answer if isinstance(answer, int) else answer.code)

    async def _transfer(self, stage: Stage, side: str) -> None:
        """One side has the other talk to somebody else, who takes its place."""
        number = f"9{stage.script.number:05d}"
        voice = self._choir.join(stage.voice(side))
        called = self._applications.will_be_called(number, voice)
        async with stage.lock:
            old = stage.caller if side == "a" else stage.application
            assert old is not None
            response = await old.request("REFER", f"Refer-To: <sip:{number}@127.0.0.1>")
        if response.code != 202:
            stage.trouble.append(f"REFER was answered {response.start}")
            return
        new = await asyncio.wait_for(called, 10)
        await new.ring()
        await asyncio.sleep(0.4)
        async with stage.lock:
            await new.answer()
            await asyncio.wait_for(old.ended.wait(), 10)
            if side == "a":
                stage.caller = new
            else:
                stage.application = new


class PartWatch(Background):
    """Reads all `.part` files again and again, and keeps what it found that is loud. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.reads = 0
        self.leaks: list[str] = []
        self._folder = folder
        super().__init__(self._run)

    def _run(self) -> None:
        while not self._stopping.wait(0.1):
            for path in self._folder.glob("*.part"):
                try:
                    content = path.read_bytes()[HEADER_BYTES:]
                except FileNotFoundError:
                    continue
                samples = np.frombuffer(content[: len(content) // 2 * 2], np.int16)
                self.reads += 1
                if len(samples) and int(np.abs(samples.astype(np.int32)).max()) > LOUD:
                    self.leaks.append(path.name)


@dataclass(slots=True)
class Judgement:
    """What was found of one call: sensitive samples, seconds lost before and after steps, and what else is wrong."""

    leaked: int = 0
    before_s: float = 0.0
    after_s: float = 0.0
    measured: int = 0
    trouble: list[str] = field(default_factory=list)


def judge(stage: Stage, folder: Path) -> Judgement:
    """Judge the file and the manifest of a call."""
    found = Judgement(trouble=list(stage.trouble))
    paths = [path for path in folder.glob(f"*~{stage.dialog_id}.*") if path.suffix != ".json"]
    if len(paths) != 1:
        found.trouble.append(f"files: {[path.name for path in paths]}")
        return found
    samples, _ = read_wav(paths[0])
    manifest = json.loads(paths[0].with_suffix(".json").read_text())
    found.leaked = int(np.count_nonzero(np.abs(samples.astype(np.int32)) > LOUD))
    length = len(samples) + round(RATE * sum(join["left_out_s"] for join in manifest["joins"]))
    if length != round(RATE * manifest["call_duration_s"]):
        found.trouble.append(f"{length} samples of a call of {manifest['call_duration_s']} s")
    if abs(length / RATE - (stage.hung_up_s - stage.answered_s)) > 0.5:
        found.trouble.append(f"{length / RATE} s of a call of {stage.hung_up_s - stage.answered_s} s")
    if not stage.asked and manifest["redactions"]:
        found.trouble.append("silence that nobody asked for")
    unresumed = sum(not redaction["resumed"] for redaction in manifest["redactions"])
    if unresumed != bool(stage.open_steps):
        found.trouble.append(f"{unresumed} redactions not resumed, and open were {sorted(stage.open_steps)}")
    if stage.script.is_plain:
        caller = samples if samples.ndim == 1 else samples[:, 0]
        _measure(stage, _in_call(caller, manifest["joins"]), found)
    return found


def _in_call(samples: Samples, joins: list[dict[str, Any]]) -> Samples:
    """The samples on the call's clock: silence where something was left out."""
    pieces, at = [], 0
    for join in joins:
        pieces += [samples[at : join["sample"]], np.zeros(round(RATE * join["left_out_s"]), np.int16)]
        at = join["sample"]
    return np.concatenate([*pieces, samples[at:]])


def _measure(stage: Stage, samples: Samples, found: Judgement) -> None:
    """Find which of the caller's packets are not in the recording, and how far from the step they are."""
    voice = stage.spoken[0]
    assert voice.began_s is not None
    heard = {number for number, _ in _heard(samples, voice.began_s - stage.answered_s)}
    if not heard:
        return
    for number in range(min(heard), max(heard) + 1):
        due_s = voice.began_s + number * PACKET_S
        if number in heard or stage.is_sensitive(due_s):
            continue
        # Not sensitive and lost: it must be near the begin of a step, or near the end of one.
        before = min((sent - due_s for sent, _ in stage.asked if sent > due_s), default=float("inf"))
        after = min(
            (due_s + PACKET_S - ended for _, ended in stage.ended if ended <= due_s + PACKET_S), default=float("inf")
        )
        between = any(sent <= due_s <= answered for sent, answered in (*stage.asked, *stage.ended))
        if between:
            continue
        if before - GUARD_BEFORE_S < after - GUARD_AFTER_S:
            found.before_s = max(found.before_s, before)
        else:
            found.after_s = max(found.after_s, after)
    found.measured = 1


def _heard(samples: Samples, began_s: float) -> Iterator[tuple[int, int]]:
    """(number, position) of each packet of the recording, if only in part; `began_s`: about where packet 0 is."""
    loud = np.flatnonzero(samples > AUDIBLE)
    if len(loud) == 0:
        return
    levels = np.abs(samples[loud, None].astype(np.int32) - APPLICATION_LEVEL // 2 - LEVELS).argmin(axis=1)
    edges = np.flatnonzero((np.diff(levels) != 0) | (np.diff(loud) != 1)) + 1
    for first, last in itertools.pairwise([0, *edges.tolist(), len(loud)]):
        if last - first < PACKET // 8:
            continue
        position, level = int(loud[first]), int(levels[first])
        about = (position / RATE - began_s) / PACKET_S
        yield level + len(CODES) * round((about - level) / len(CODES)), position


def scan(pid: int) -> dict[str, int]:
    """How many runs of sensitive samples the process holds: decoded, in any width, and as packets.

    What was said before the recorder answered is not looked for: it had been heard, and the guard took it back.
    """
    caller, application = (linear(code) for code in SECRET_CODES.values())
    mixed = int(mix(np.array([caller], np.int16), np.array([application], np.int16))[0])
    values = {caller, application, caller + application, mixed}
    decoded = {np.full(16, value, kind).tobytes() for value in values for kind in (np.int32, np.int64, np.float32)}
    decoded |= {np.full(16, value, np.int16).tobytes() for value in values if value < 1 << 15}
    packets = {bytes([code]) * PACKET for code in SECRET_CODES.values()}
    normal = {np.full(16, int(LEVELS[3]), np.int16).tobytes()}
    counts = {"decoded": 0, "packets": 0, "normal": 0}
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for region in Path(f"/proc/{pid}/maps").read_text().splitlines():
            bounds, rights, *_ = region.split()
            if not rights.startswith("rw"):
                continue
            start, stop = (int(bound, 16) for bound in bounds.split("-"))
            try:
                memory.seek(start)
                content = memory.read(stop - start)
            except (OSError, OverflowError, ValueError):
                continue
            for name, patterns in (("decoded", decoded), ("packets", packets), ("normal", normal)):
                counts[name] += sum(content.count(pattern) for pattern in patterns)
    return counts
