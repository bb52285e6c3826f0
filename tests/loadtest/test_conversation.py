"""The demonstration's conversation is found again in a recording, and the secret part is missed only if it is gone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from recorder import demo
from recorder.demo import LINES
from recorder.errors import StartError
from recorder.loadtest import conversation
from recorder.loadtest.conversation import Conversation, Line, Speaker, build, listen, missing_programs
from recorder.loadtest.tones import SAMPLE_RATE_HZ, Codec, Samples, read_raw
from tests.loadtest.spoken import muted


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Conversation:
    return build(LINES, tmp_path_factory.mktemp("sounds"))


def mixed(spoken: Conversation, delay_s: float = 0.03) -> Samples:
    """What a recorder would record of it, without muting anything."""
    tracks = [read_raw(path, Codec.PCMU).astype(np.int32) for path in spoken.files.values()]
    whole = (tracks[0] + tracks[1]).astype(np.int16)
    silence = np.zeros(round(delay_s * SAMPLE_RATE_HZ), dtype=np.int16)
    return np.concatenate((silence, whole))[: round(spoken.length_s * SAMPLE_RATE_HZ)]


def test_the_two_take_turns(spoken: Conversation) -> None:
    assert 20 < spoken.length_s < 32
    for turn, following in zip(spoken.turns, spoken.turns[1:], strict=False):
        assert turn.end_s + 0.4 < following.start_s
    mute_from, mute_to = spoken.mute
    secret = [turn for turn in spoken.turns if turn.line.secret]
    # The guard of 300 ms before and 60 ms after falls into pauses.
    assert mute_from - 0.3 > max(t.end_s for t in spoken.turns if t.end_s < secret[0].start_s)
    assert mute_from < secret[0].start_s
    assert secret[-1].end_s < mute_to
    assert mute_to + 0.06 < min(t.start_s for t in spoken.turns if t.start_s > secret[-1].end_s)
    assert np.abs(mixed(spoken)).max() < 16384


def test_every_turn_is_found_where_it_is(spoken: Conversation) -> None:
    for heard in listen(mixed(spoken), spoken):
        assert heard.is_there
        assert heard.likeness > 0.98
        assert heard.start_s == pytest.approx(heard.turn.start_s + 0.03, abs=0.01) or heard.turn.line.secret


def test_a_muted_step_is_not_found(spoken: Conversation) -> None:
    heard = listen(muted(mixed(spoken), spoken.mute[0] - 0.3, spoken.mute[1]), spoken)
    assert [one.is_there for one in heard] == [not one.turn.line.secret for one in heard]
    assert max(one.likeness for one in heard if one.turn.line.secret) < 0.6


def test_a_sentence_that_is_missing_is_not_found(spoken: Conversation) -> None:
    turn = spoken.turns[1]
    heard = listen(muted(mixed(spoken), turn.start_s, turn.end_s + 0.1), spoken)
    assert [one.turn for one in heard if not one.is_there] == [turn]


def test_a_secret_that_comes_late_is_still_found(spoken: Conversation) -> None:
    """Muted in its own time, but there is an echo of it at the end: found wherever it is."""
    whole = mixed(spoken)
    secret = next(turn for turn in spoken.turns if turn.line.secret)
    clean = muted(whole, spoken.mute[0] - 0.3, spoken.mute[1])
    leaked = np.concatenate((clean, secret.samples))
    assert secret in [one.turn for one in listen(leaked, spoken) if one.is_there]


def test_silence_is_like_nothing(spoken: Conversation) -> None:
    assert not any(one.is_there for one in listen(np.zeros(200_000, dtype=np.int16), spoken))


def test_what_is_not_installed_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation.shutil, "which", lambda _: None)
    monkeypatch.setattr(conversation, "_PROMPT_FOLDERS", ())
    missing = missing_programs([Line(Speaker.APPLICATION, "Hello.", "hello")])
    assert [line.rpartition(" ")[2] for line in missing] == [
        "sip-tester",
        "espeak-ng",
        "sox",
        "asterisk-core-sounds-en-wav",
    ]
    with pytest.raises(StartError, match="apt-get install espeak-ng"):
        demo.run(demo.Options(once=True))


def test_demo(tmp_path: Path) -> None:
    """One real call, as `recorder demo --once` places it."""
    console = Console(file=io.StringIO(), width=200)
    code = demo.run(demo.Options(once=True, keep=tmp_path), console)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert code == 0, printed
    assert "every one 0" in printed
    [recording] = (tmp_path / "recordings").glob("demo~ivr~*.wav")
    assert str(recording) in printed
    assert f"/api/v1/recordings/{recording.stem.rpartition('~')[2]}/audio?access_token=" in printed
    with pytest.raises(StartError, match="holds recordings already"):
        demo.run(demo.Options(once=True, keep=tmp_path), console)


def test_a_demo_whose_step_is_not_muted_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application forgets to mute: the card number is in the file, and the demonstration says so."""
    forgetful = demo.Plan

    def plan(scenario: str, **options: object) -> object:
        options.pop("variables", None)
        return forgetful("uas-answer" if scenario == "uas-answer-mute" else scenario, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(demo, "Plan", plan)
    console = Console(file=io.StringIO(), width=200)
    assert demo.run(demo.Options(once=True, keep=tmp_path), console) == 1
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "My card number is" in printed
    assert "and must not be" in printed
    assert "0 muted spans instead of one" in printed
