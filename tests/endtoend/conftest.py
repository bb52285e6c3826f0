"""A recorder that runs as its users run it, and real calls through it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder.loadtest.peers import Outcome, Plan, Sipp
from recorder.loadtest.sipp_output import SipMessage
from recorder.loadtest.subject import Subject
from recorder.loadtest.tones import Codec
from tests.peers.rtp import RtpPeer, voice_of
from tests.tones import Samples, read_wav


@dataclass(frozen=True, slots=True)
class Call:
    """What both ends saw of one call."""

    caller: Outcome
    application: Outcome

    @property
    def sip_call_id(self) -> str:
        """The Call-ID of the A leg."""
        found = self.caller.sent("INVITE")[0].header("Call-ID")
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class Kept:
    """A recording as it lies on disk: samples at `rate`, and its manifest."""

    path: Path
    samples: Samples
    rate: int
    manifest: dict[str, Any]


class Bench:
    """One running recorder and the means to call through it."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def call(
        self,
        caller: str,
        application: str,
        *,
        seconds: float = 2,
        voices: tuple[RtpPeer, RtpPeer] | None = None,
        **plans: dict[str, Any],
    ) -> Call:
        """Place one call; both scenarios must go as written.

        `caller_plan` and `application_plan` hold more of each Plan; `voices` speak for both sides in SIPp's place.
        """
        for_caller, for_application = plans.get("caller_plan", {}), plans.get("application_plan", {})
        length_ms = round(seconds * 1000)
        port = self.subject.application_port
        listening = Plan(application, **{"length_ms": length_ms, "port": port, **for_application})
        with Sipp(listening) as callee:
            calling = Plan(caller, **{"remote": self.subject.sip_address, "length_ms": length_ms, **for_caller})
            with Sipp(calling) as dialing:
                if voices is not None:
                    a, b = voices
                    a.begin(
                        audio_port(self.eventually(lambda: next(iter(dialing.outcome().received(200)), None), "200"))
                    )
                    b.begin(audio_port(callee.outcome().received("INVITE")[0]))
                dialed = dialing.wait()
            answered = callee.wait(10)
        assert dialed.ok, f"caller: {dialed.errors}"
        assert answered.ok, f"application: {answered.errors}"
        return Call(dialed, answered)

    def talk(
        self, a: RtpPeer, b: RtpPeer, seconds: float, caller: str = "uac-call", application: str = "uas-answer"
    ) -> Call:
        """Place one call in which `a` and `b` speak, in G.711 mu-law."""
        return self.call(
            caller,
            application,
            seconds=seconds,
            voices=(a, b),
            caller_plan={"edit": voice_of(a, "caller", Codec.PCMU)},
            application_plan={"edit": voice_of(b, "callee", Codec.PCMU)},
        )

    def cdr(self, call: Call) -> dict[str, Any]:
        """The call's detail record, once it is indexed."""
        return self.cdr_where("a_sip_call_id", call.sip_call_id)

    def cdr_where(self, key: str, value: object) -> dict[str, Any]:
        """The detail record with this value, once it is indexed."""
        found = self.eventually(
            lambda: next((cdr for cdr in self.subject.api.get("cdrs")["cdrs"] if cdr[key] == value), None), "the CDR"
        )
        return dict(found)

    def kept(self, call: Call) -> Kept:
        """The call's recording, once it is indexed; file and manifest must be there by then."""
        return self.kept_of(self.cdr(call))

    def kept_of(self, cdr: dict[str, Any]) -> Kept:
        """The recording of the call that has this detail record."""
        assert cdr["recorded"], cdr
        path = self.subject.recordings / cdr["file"]
        samples, rate = read_wav(path)
        return Kept(path, samples, rate, json.loads(path.with_suffix(".json").read_text()))

    @staticmethod
    def eventually(question: Callable[[], Any], what: str, timeout_s: float = 30) -> Any:
        """The first answer that is not None; fails when there is none in time."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            answer = question()
            if answer is not None:
                return answer
            time.sleep(0.01)
        raise AssertionError(f"{what} did not come within {timeout_s} s")


def check_silent(samples: Samples) -> None:
    """Nothing at all is kept of a muted step. No moment excuses a sample of it: this is not asked again."""
    if heard := int(np.count_nonzero(samples)):
        pytest.fail(f"{heard} samples of a muted step are heard")


def later(found_s: float, said_s: float, early_s: float = 0.05) -> bool:
    """Whether the recorder had it at that moment, or as much later as a machine that stands still may make it."""
    return -early_s < found_s - said_s < 0.5


def audio_port(message: SipMessage) -> int:
    """The port that an SDP body asks audio to be sent to (RFC 8866, section 5.14)."""
    found = re.search(rb"^m=audio (\d+) ", message.body, re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A recorder for the whole module; at its end it must leave in peace and have logged no error."""
    subject = Subject(tmp_path_factory.mktemp("recorder"), changes=CHANGES)
    # A target that does not answer is sent its INVITE for 32 s (RFC 3261, timer B): not to the one that the others use.
    target = {"uri": f"sip:{{user}}@127.0.0.1:{silent_port(subject)}", "setup_timeout_s": 2}
    silent = {"name": "silent", "match": {"called": "9.*"}, "targets": [target]}
    subject.configuration["routes"].insert(0, silent)
    with subject:
        bench = Bench(subject)
        yield bench
        bench.eventually(lambda: True if not subject.api.get("calls")["calls"] else None, "the end of every call")
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


def silent_port(subject: Subject) -> int:
    """A port of the bench's own, where numbers that begin with 9 lead."""
    return subject.application_port + 1


CHANGES: dict[str, Any] = {
    "sip": {"ring_timeout_s": 4},
    "trunks": [
        {
            "name": "caller",
            "sources": ["127.0.0.0/8"],
            "identity_headers": {"group": "X-Group-Id", "account": "X-Account-Id", "dialog": "X-Dialog-Id"},
        }
    ],
    "accounts": [
        {"id": "quiet", "group": "tests", "match": {"called": "2.*"}},
        {"id": "loud", "group": "tests", "record": True},
    ],
}
