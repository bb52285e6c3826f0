"""Two calls of an endpoint to itself, for the programs that need media."""

from __future__ import annotations

import pjsua2 as pj
from endpoint import LoopbackEndpoint, answer, audio_only

from recorder import native


class Leg(pj.Call):
    slot = -1

    def onCallMediaState(self, prm: object) -> None:  # noqa: ARG002
        self.slot = native.conference_slot(self.getId())


class SelfCaller(pj.Account):
    """Answers what it is called for; `legs` holds both ends of every call, the caller's end first in each pair."""

    def __init__(self, endpoint: LoopbackEndpoint) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.answered: list[Leg] = []
        endpoint.account(self)

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        leg = Leg(self, prm.callId)
        self.answered.append(leg)
        answer(leg)

    def call_self(self) -> tuple[Leg, Leg]:
        caller = Leg(self)
        known = len(self.answered)
        caller.makeCall(f"sip:test@{self.endpoint.address}", audio_only())
        self.endpoint.until(lambda: caller.slot > 0 and len(self.answered) > known and self.answered[known].slot > 0)
        return caller, self.answered[known]


def tone(frequency_hz: int) -> pj.ToneGenerator:
    generator = pj.ToneGenerator()
    generator.createToneGenerator(8000, 1)
    description = pj.ToneDesc()
    description.freq1, description.freq2 = frequency_hz, 0
    description.on_msec, description.off_msec = 1000, 0
    tones = pj.ToneDescVector()
    tones.append(description)
    generator.play(tones, True)
    return generator
