"""The same as test_drift, once for real: a call through a running recorder, RTP over loopback, as long as it takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recorder.loadtest.subject import Subject
from recorder.loadtest.tones import Codec
from tests.endtoend.conftest import CHANGES, Bench
from tests.evidence.size import FULL, figures
from tests.peers.rtp import voice_of
from tests.peers.rtp_stream import Network, PacedPeer, Phone
from tests.tones import RATE, Samples

CALL_S = 600 if FULL else 8
LIMIT = 20 * RATE // 1000
PERIOD = RATE
_TIME = np.arange(RATE // 5) / RATE
CHIRP = np.rint(6000 * np.sin(2 * np.pi * (300 * _TIME + 5000 * _TIME**2))).astype(np.int16)
SECOND = np.concatenate((CHIRP, np.zeros(PERIOD - len(CHIRP), np.int16)))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A recorder that writes each leg into a channel of its own."""
    accounts = [{"id": "apart", "group": "tests", "record": True, "format": {"channels": "stereo"}}]
    with Subject(tmp_path / "recorder", changes={**CHANGES, "accounts": accounts}) as subject:
        yield Bench(subject)
        assert subject.stop() == 0, subject.log_tail()


def onsets(samples: Samples, ppm: int, count: int) -> np.ndarray:
    """Where each chirp begins, less when it was said."""
    rate = 1 + ppm * 1e-6
    lags = np.correlate(samples[: 3 * RATE].astype(float), CHIRP.astype(float), "valid")
    first = int(np.argmax(lags[: RATE + RATE // 2]))
    found = []
    for number in range(count):
        said = round(number * PERIOD / rate)
        begin = max(0, first + said - RATE // 10)
        window = samples[begin : begin + len(CHIRP) + RATE // 5]
        if len(window) < len(CHIRP) + RATE // 5:
            break
        found.append(begin + int(np.argmax(np.correlate(window.astype(float), CHIRP.astype(float), "valid"))) - said)
    return np.array(found)


@pytest.mark.moments
@pytest.mark.timeout(3 * CALL_S + 120)
def test_legs_of_a_real_call_do_not_drift_apart(bench: Bench) -> None:
    ppms = {"a": 100, "b": -100}
    phones = {side: Phone(ppm=ppm, timestamp=2**32 - 40_000) for side, ppm in ppms.items()}
    for phone in phones.values():
        for _ in range(CALL_S - 1):
            phone.talk(SECOND)
    peers = {side: PacedPeer(Network().carry(phone.sent)) for side, phone in phones.items()}
    with peers["a"] as a, peers["b"] as b:
        call = bench.call(
            "uac-call",
            "uas-answer",
            seconds=CALL_S,
            voices=(a, b),  # type: ignore[arg-type]
            caller_plan={"edit": voice_of(a, "caller", Codec.PCMU), "timeout_s": CALL_S + 60},  # type: ignore[arg-type]
            application_plan={"edit": voice_of(b, "callee", Codec.PCMU), "timeout_s": CALL_S + 60},  # type: ignore[arg-type]
        )
    kept = bench.kept(call)
    assert len(kept.samples) / kept.rate == pytest.approx(CALL_S, abs=0.5)
    found = {side: onsets(kept.samples[:, channel], ppms[side], CALL_S - 2) for channel, side in enumerate("ab")}
    count = min(map(len, found.values()))
    assert count > CALL_S // 2
    # The phones did not begin at the same moment; from there on nothing may change.
    apart = found["a"][:count] - found["b"][:count]
    drift = apart - int(np.median(apart[:5]))
    figures.info(
        "%d s for real, +100 and -100 ppm: %.1f ms further apart at the end than at the beginning, %.1f ms at most",
        *(CALL_S, drift[-1] / 8, np.abs(drift).max() / 8),
    )
    assert abs(drift[-1]) <= LIMIT
    assert np.abs(drift).max() <= 2 * LIMIT
    assert {gap["cause"] for gap in kept.manifest["gaps"]} <= {"no_rtp"}
