"""An account whose keys (DTMF) are not to be heard in its recordings: real calls, both ways of pressing them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from recorder.loadtest.subject import Subject
from tests.endtoend.conftest import Bench
from tests.media.test_dtmf import HIGH_HZ, LOW_HZ, key
from tests.peers.rtp import RtpPeer, encoded
from tests.tones import RATE, Samples, amplitude_of, silence, sine

pytestmark = pytest.mark.moments

VOICE_HZ = 300


@pytest.fixture(scope="module")
def removing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A recorder whose one account has its keys removed."""
    accounts = [{"id": "keys", "group": "tests", "record": True, "dtmf": "remove"}]
    with Subject(tmp_path_factory.mktemp("removing"), changes={"accounts": accounts}) as subject:
        yield Bench(subject)
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


def loudest_key(samples: Samples) -> float:
    """The most that any 20 ms hold of any key's tones."""
    frames = [samples[at : at + 160] for at in range(0, len(samples) - 160, 80)]
    return max(amplitude_of(frame, hertz) for frame in frames for hertz in LOW_HZ[2:] + HIGH_HZ)


def test_no_key_is_heard(removing: Bench) -> None:
    """Two keys by their tones; one by a telephone event, whose tone gets through for 40 ms before the event begins."""
    caller = sine(VOICE_HZ, 4.0, amplitude=500)
    for at_s, pressed, ms in ((1.0, 9, 80), (1.5, 14, 100), (2.16, 13, 40)):
        at, tone = round(at_s * RATE), key(pressed, ms)
        caller[at : at + len(tone)] = tone
    with RtpPeer(encoded(caller), digits={110: 0}) as a, RtpPeer(encoded(silence(4.0))) as b:
        call = removing.talk(a, b, 3.5)
    assert loudest_key(caller) > 5000
    kept = removing.kept(call)
    assert loudest_key(kept.samples) < 100
    removed = kept.manifest["tones_removed"]
    assert [one["leg"] for one in removed] == ["a"] * 3
    assert [one["call_duration_s"] for one in removed] == pytest.approx([0.12, 0.14, 0.2], abs=0.03)
    starts = np.array([one["start_s"] for one in removed])
    assert np.diff(starts) == pytest.approx([0.5, 0.6], abs=0.06)
    assert amplitude_of(kept.samples[RATE // 4 : RATE // 2], VOICE_HZ) > 400
