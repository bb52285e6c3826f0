"""One phase of a load test: the calls themselves, and when each was answered, muted and hung up as its ends saw it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from recorder.loadtest.options import Phase
from recorder.loadtest.peers import Outcome, Plan, Sipp
from recorder.loadtest.tones import APPLICATION, CALLER, Codec, write_voice

# Called numbers that begin so have a sensitive step in uas-load.xml.
_PLAIN, _SENSITIVE = "7", "8"


@dataclass(slots=True)
class CallSeen:
    """One call as its two ends saw it. Times are epoch seconds; None: it did not come to that."""

    called: str
    dialog_id: str
    sensitive: bool
    answered: float | None = None
    hung_up: float | None = None
    ended: float | None = None
    muting: float | None = None
    muted: float | None = None
    unmuting: float | None = None
    unmuted: float | None = None

    @property
    def length_s(self) -> float | None:
        """For how long it was answered."""
        if self.answered is None or self.hung_up is None:
            return None
        return self.hung_up - self.answered


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a phase did: its calls by called number, and the outcome of both SIPp processes.

    `rtp` counts the packets of a sender of our own: sent, received through the recorder, late. Empty with SIPp's.
    """

    phase: Phase
    calls: dict[str, CallSeen]
    caller: Outcome = field(repr=False)
    application: Outcome = field(repr=False)
    rtp: dict[str, int] = field(default_factory=dict)

    @property
    def answered_at(self) -> list[float]:
        """When each call was answered."""
        return [call.answered for call in self.calls.values() if call.answered is not None]

    @property
    def hung_up_at(self) -> list[float]:
        """When each call was hung up."""
        return [call.hung_up for call in self.calls.values() if call.hung_up is not None]

    @property
    def talk_s(self) -> float:
        """The length of all its calls together."""
        return sum(call.length_s or 0.0 for call in self.calls.values())

    def steady_window(self) -> tuple[float, float] | None:
        """From when to when all calls were up and settled; None when they were not."""
        if not self.answered_at or len(self.answered_at) < self.phase.calls:
            return None
        window = (max(self.answered_at) + 1.0, min(self.hung_up_at, default=0.0) - 0.5)
        return window if window[1] - window[0] >= 2.0 else None


@dataclass(frozen=True, slots=True)
class Sound:
    """Who makes the RTP. SIPp itself by default; otherwise `edits` of the scenarios name the port of another sender."""

    caller_edit: tuple[tuple[str, str], ...] = ()
    application_edit: tuple[tuple[str, str], ...] = ()


class PhaseRun:
    """A phase under way. As a context manager it starts both SIPp processes and ends them."""

    def __init__(
        self, phase: Phase, target: str, application_port: int, codec: Codec, folder: Path, sound: Sound | None = None
    ) -> None:
        self.phase = phase
        self._calls = _plan_calls(phase)
        self._sounds = {
            f"caller{codec.suffix}": write_voice(folder, f"caller{codec.suffix}", CALLER, codec),
            f"callee{codec.suffix}": write_voice(folder, f"callee{codec.suffix}", APPLICATION, codec),
        }
        suffix = "" if codec is Codec.PCMU else f"-{codec.label}"
        sound = sound or Sound()
        # What may go wrong with one call (a lost packet, a slow answer) must not end the others.
        timeout_s = phase.ramp_s + phase.duration_s + 45
        mute_after_s, mute_for_s = mute_times(phase.duration_s)
        self.application = Sipp(
            Plan(
                f"uas-load{suffix}",
                calls=phase.calls,
                port=application_port,
                variables={"mute_after": round(1000 * mute_after_s), "mute_for": round(1000 * mute_for_s)},
                sounds=self._sounds,
                timeout_s=timeout_s + 5,
                trace=False,
                edit=sound.application_edit,
            )
        )
        self.caller = Sipp(
            Plan(
                f"uac-load{suffix}",
                remote=target,
                calls=phase.calls,
                rate=phase.rate,
                length_ms=round(1000 * phase.duration_s),
                rows=[(call.called, f"5{call.called[1:]}", call.dialog_id) for call in self._calls.values()],
                sounds=self._sounds,
                timeout_s=timeout_s,
                trace=False,
                edit=sound.caller_edit,
            )
        )

    def __enter__(self) -> PhaseRun:
        try:
            self.application.start()
            self.caller.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.caller.close()
        self.application.close()

    def progress(self) -> tuple[int, int]:
        """How many calls were answered and how many are over, so far."""
        log = self.caller.outcome().log
        return sum(line[0] == "answered" for line in log), sum(line[0] == "ended" for line in log)

    def finish(self, each: Callable[[], None], every_s: float = 0.5) -> Traffic:
        """Wait for the end, calling `each` now and then; tell what happened."""
        while self.caller.running:
            each()
            self.caller.pause(every_s)
        caller = self.caller.wait()
        application = self.application.wait(3 if caller.ok else 0)
        for line in (*caller.log, *application.log):
            note(self._calls, line)
        return Traffic(self.phase, self._calls, caller, application)


def mute_times(duration_s: float) -> tuple[float, float]:
    """When a sensitive step begins in a call of `duration_s`, and how long it lasts."""
    return duration_s * 0.4, min(duration_s * 0.25, 5.0)


def _plan_calls(phase: Phase) -> dict[str, CallSeen]:
    run = f"{secrets.randbelow(10**6):06}"
    calls = {}
    for position in range(phase.calls):
        sensitive = phase.mute_every > 0 and position % phase.mute_every == phase.mute_every - 1
        called = f"{_SENSITIVE if sensitive else _PLAIN}{run}{position:06}"
        calls[called] = CallSeen(called, secrets.token_hex(16).upper(), sensitive)
    return calls


def note(calls: dict[str, CallSeen], line: tuple[str, ...]) -> None:
    """Enter a line of a scenario's log in the call that it is about."""
    what, called, when = line[0], line[1] if len(line) > 1 else "", line[2] if len(line) > 2 else ""
    call = calls.get(called)
    name = {"bye": "hung_up"}.get(what, what)
    if call is not None and name in ("answered", "hung_up", "ended", "muting", "muted", "unmuting", "unmuted"):
        setattr(call, name, float(when))
