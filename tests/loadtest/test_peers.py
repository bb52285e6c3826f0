"""The SIPp runner, and every scenario played against its counterpart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recorder.errors import StartError
from recorder.loadtest import peers
from recorder.loadtest.peers import Outcome, Plan, Sipp, scenario_path
from recorder.loadtest.tones import CALLER, Codec, read_raw, write_voice

pytestmark = pytest.mark.moments

SCENARIOS = sorted(path.stem for path in scenario_path("uac-call").parent.glob("*.xml"))
SHORT_MUTE = {"mute_after": 200, "mute_for": 200}


def play(caller: str, callee: str, caller_plan: dict[str, Any], callee_plan: dict[str, Any]) -> tuple[Outcome, Outcome]:
    """Play two scenarios straight against each other."""
    with Sipp(Plan(callee, **{"length_ms": 200, "timeout_s": 20} | callee_plan)) as called:
        plan = Plan(caller, remote=called.address, **{"length_ms": 300, "timeout_s": 20} | caller_plan)
        with Sipp(plan) as calling:
            return calling.wait(), called.wait(5)


# With no recorder in the middle, somebody has to answer the application's INFO.
ANSWERS_INFO = {"auto_answer": True, "length_ms": 1000}
PAIRS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("uac-call", "uas-answer", {}, {}),
    ("uac-call-pcma", "uas-answer-pcma", {}, {}),
    ("uac-call", "uas-answer-mute", ANSWERS_INFO, {"variables": SHORT_MUTE}),
    ("uac-call", "uas-answer-mute-json", ANSWERS_INFO, {"variables": SHORT_MUTE}),
    ("uac-call", "uas-mute-forever", ANSWERS_INFO, {"variables": {"mute_after": 200}}),
    ("uac-wait-bye", "uas-mute-bye", ANSWERS_INFO, {"variables": SHORT_MUTE}),
    ("uac-wait-bye", "uas-bye", {}, {}),
    ("uac-cancel", "uas-ring", {}, {}),
    ("uac-call", "uas-ring-answer", {}, {}),
    ("uac-call", "uas-early-media", {}, {}),
    ("uac-rejected", "uas-busy", {}, {}),
    ("uac-rejected", "uas-reject", {}, {}),
    ("uac-rejected", "uas-reject-404", {}, {}),
    ("uac-rejected", "uas-reject-480", {}, {}),
    ("uac-rejected", "uas-reject-488", {}, {}),
    ("uac-no-audio", "uas-reject-488", {}, {}),
    ("uac-rejected", "uas-reject-503", {}, {}),
    ("uac-rejected", "uas-redirect", {}, {}),
    ("uac-info-unknown", "uas-info-unknown", {}, {}),
    ("uac-info-dtmf", "uas-info-dtmf", {}, {}),
    ("uac-info-garbage", "uas-info-garbage", {}, {}),
    ("uac-call", "uas-info-before-answer", ANSWERS_INFO, {"variables": {"mute_for": 200}}),
    ("uac-bad-identifier", "uas-answer", {}, {}),
    ("uac-load", "uas-load", {"rows": [("7001", "5001", "A1")]}, {}),
    ("uac-load-pcma", "uas-load-pcma", {"rows": [("7001", "5001", "A1")]}, {}),
    ("uac-load", "uas-load", ANSWERS_INFO | {"rows": [("8001", "5001", "A1")]}, {"variables": SHORT_MUTE}),
]
# These need someone in the middle: a party that refuses, or that takes a re-INVITE. The tests of tests/endtoend play
# many more, which are named there.
NEED_THE_RECORDER = {"uac-hold", "uac-refer", "uac-unmute-refused", "uas-hold", "uas-no-answer"}
END_TO_END = Path(__file__).parents[1] / "endtoend"


@pytest.mark.parametrize(
    ("caller", "callee", "caller_plan", "callee_plan"), PAIRS, ids=lambda p: p if isinstance(p, str) else ""
)
def test_scenarios(caller: str, callee: str, caller_plan: dict[str, Any], callee_plan: dict[str, Any]) -> None:
    called_from, answered_by = play(caller, callee, caller_plan, callee_plan)
    assert called_from.ok, called_from.errors
    assert answered_by.ok, answered_by.errors


def test_no_scenario_is_left_out() -> None:
    played = {name for caller, callee, *_ in PAIRS for name in (caller, callee)}
    tests = "".join(path.read_text(encoding="utf-8") for path in END_TO_END.glob("*.py"))
    with_the_recorder = {name for name in SCENARIOS if f'"{name}"' in tests}
    assert set(SCENARIOS) == played | NEED_THE_RECORDER | with_the_recorder


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_is_named_after_its_file_and_says_how_it_is_used(scenario: str) -> None:
    text = scenario_path(scenario).read_text(encoding="utf-8")
    assert f'<scenario name="{scenario}">' in text
    assert f"-sf sipp-scenarios/{scenario}.xml" in text.partition("-->")[0]


def test_the_unknown_info_and_its_answer_arrive_byte_for_byte() -> None:
    caller, callee = play("uac-info-unknown", "uas-info-unknown", {}, {})
    [sent], [arrived] = caller.sent("INFO"), callee.received("INFO")
    assert sent.body == arrived.body
    assert b"\x01\xfe\xff" in arrived.body
    assert caller.received(299)[0].body == callee.sent(299)[0].body != b""


def test_the_times_given_to_a_scenario_are_kept() -> None:
    _, callee = play(
        "uac-call",
        "uas-answer-mute",
        {"auto_answer": True, "length_ms": 1500},
        {"variables": SHORT_MUTE | {"mute_for": 700}},
    )
    off, on = callee.sent("INFO")
    assert (off.header("Record"), on.header("Record")) == ("off", "on")
    assert 0.65 < on.time_s - off.time_s < 1.5


def test_a_failed_call_shows_in_the_outcome() -> None:
    caller, _ = play("uac-call", "uas-busy", {}, {"timeout_s": 3})
    assert not caller.ok
    assert caller.exit_code != 0
    assert caller.statistics.failed == 1
    assert "486" in caller.errors


def test_several_runs_go_side_by_side() -> None:
    with Sipp(Plan("uas-answer")) as one, Sipp(Plan("uas-answer")) as other:
        assert one.port != other.port
        with Sipp(Plan("uac-call", remote=one.address)) as a, Sipp(Plan("uac-call", remote=other.address)) as b:
            assert a.wait().ok
            assert b.wait().ok


def test_a_run_is_bounded_and_leaves_nothing_behind() -> None:
    with Sipp(Plan("uas-answer", timeout_s=1)) as lonely:
        outcome = lonely.wait()
        assert not outcome.ok
        folder, pid = lonely.folder, lonely.pid
    assert not folder.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_stop_ends_a_run_at_once() -> None:
    with Sipp(Plan("uas-answer", timeout_s=60)) as lonely:
        lonely.stop()
        assert not lonely.running


def test_a_scenario_that_is_not_there() -> None:
    with pytest.raises(StartError, match="no scenario 'uas-nonsense'"):
        Sipp(Plan("uas-nonsense")).start()


def test_a_replacement_that_finds_nothing_is_an_error() -> None:
    with pytest.raises(StartError, match="nothing to replace"), Sipp(Plan("uas-answer", edit=[("no such text", "")])):
        pass


def test_sipp_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.shutil, "which", lambda _: None)
    with pytest.raises(StartError, match="sip-tester"):
        Sipp(Plan("uas-answer")).start()


@pytest.mark.parametrize("codec", Codec)
def test_a_sound_file_is_g711_and_loops_without_a_seam(tmp_path: Path, codec: Codec) -> None:
    path = write_voice(tmp_path, "voice", CALLER, codec)
    assert path.stat().st_size == 16_000
    samples = read_raw(path, codec)
    assert abs(samples.astype(int) - CALLER.samples()).max() < 260
    # The last sample leads on to the first as any does to the next.
    assert abs(int(samples[-1]) - int(samples[0])) < 1200
