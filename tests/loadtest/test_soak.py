"""The soak test: a small one through a real recorder, and that each kind of fault is found."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
import soundfile
from rich.console import Console

from recorder.errors import InvalidRequestError
from recorder.loadtest import soak
from recorder.loadtest.peers import scenario_path
from recorder.loadtest.soak_audit import Kept, Share, judge, memory_faults
from recorder.loadtest.soak_kinds import KINDS, TRANSFER_TO, drawn
from recorder.loadtest.soak_results import SoakOptions
from tests.tones import silence

pytestmark = [pytest.mark.alone, pytest.mark.moments]

ANSWERED = KINDS[0]
BUSY = next(kind for kind in KINDS if kind.name == "busy")
QUICK = tuple(kind.name for kind in KINDS if not kind.lingers and kind.name != "rings, nobody answers")


# What a recorder process runs first: it notes, when it ends, what only the garbage collector has found or would find.
GARBAGE_NOTED = """
import atexit, gc, os
def note():
    gc.collect()
    names = sorted({type(one).__qualname__ for one in gc.garbage if type(one).__module__.startswith("recorder.")})
    open(os.environ["GARBAGE"], "w").write(" ".join(names))
if "GARBAGE" in os.environ:
    gc.set_debug(gc.DEBUG_SAVEALL)
    atexit.register(note)
"""


@pytest.fixture
def garbage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a recorder that is started now notes what of its own was in reference cycles."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(GARBAGE_NOTED)
    monkeypatch.setenv("PYTHONPATH", str(hooks))
    monkeypatch.setenv("GARBAGE", str(tmp_path / "garbage"))
    return tmp_path / "garbage"


def test_a_small_soak_leaves_nothing_but_records(tmp_path: Path, garbage: Path) -> None:
    result = tmp_path / "soak.json"
    console = Console(file=io.StringIO(), width=160)
    code = soak.run(SoakOptions(calls=60, rate=30, kinds=QUICK, json_path=result, keep=tmp_path / "kept"), console)
    assert isinstance(console.file, io.StringIO)
    assert code == 0, console.file.getvalue()
    tree = json.loads(result.read_text())
    assert tree["passed"]
    assert sum(kind["right"] for kind in tree["kinds"]) == sum(kind["calls"] for kind in tree["kinds"]) == 60
    assert len(tree["kept"]) == 4
    assert all(kept["calls"] == kept["legs"] == kept["rtp_sockets"] == 0 for kept in tree["kept"])
    assert "60 of 60 calls" in console.file.getvalue()
    assert garbage.read_text() == ""  # a call in a cycle keeps the rings of its legs until the collector comes by


def cdr(**changes: Any) -> dict[str, Any]:
    return {
        "a_sip_call_id": "1-1@127.0.0.1",
        "result": "completed",
        "reason": "caller_hangup",
        "recorded": True,
        "file": "a.wav",
        "duration_s": 1.0,
    } | changes


def faults(folder: Path, *cdrs: dict[str, Any], share: Share | None = None) -> list[str]:
    share = share or Share(ANSWERED, ["1-1@127.0.0.1"])
    found: dict[str, list[dict[str, Any]]] = {}
    for one in cdrs:
        found.setdefault(one["a_sip_call_id"], []).append(one)
    return judge([share], found, folder) + share.faults


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recording of one second and its manifest."""
    soundfile.write(tmp_path / "a.wav", silence(1.0), 8000, subtype="PCM_16")
    (tmp_path / "a.json").write_text("{}")
    return tmp_path


def test_a_right_call_is_right(folder: Path) -> None:
    share = Share(ANSWERED, ["1-1@127.0.0.1"])
    assert faults(folder, cdr(), share=share) == []
    assert (share.right, dict(share.endings)) == (1, {"completed/caller_hangup": 1})


@pytest.mark.parametrize(
    ("cdrs", "fault"),
    [
        ([], "0 CDRs instead of 1"),
        ([cdr(), cdr()], "2 CDRs instead of 1"),
        ([cdr(reason="shutdown")], "ended as completed/shutdown instead of completed/caller_hangup"),
        ([cdr(recorded=False)], "it was not recorded"),
        ([cdr(file="b.wav")], "b.wav or its manifest is not there"),
        ([cdr(duration_s=2.0)], "a.wav lasts 1.00 s, the call 2.00 s"),
        ([cdr(), cdr(a_sip_call_id="2-1@127.0.0.1")], "a CDR of a call that nobody made: 2-1@127.0.0.1"),
    ],
)
def test_what_is_wrong_with_a_call_is_named(folder: Path, cdrs: list[dict[str, Any]], fault: str) -> None:
    [found] = faults(folder, *cdrs)
    assert found.endswith(fault)


def test_a_broken_file_and_a_recording_of_nothing_are_named(folder: Path) -> None:
    (folder / "a.wav").write_bytes(b"RIFF")
    [broken] = faults(folder, cdr())
    assert "cannot be read" in broken
    [needless] = faults(folder, cdr(result="rejected", reason="busy"), share=Share(BUSY, ["1-1@127.0.0.1"]))
    assert "recorded though never answered" in needless


def test_anything_that_is_kept_is_not_idle() -> None:
    nothing = {"calls": 0, "legs": 0, "rtp_sockets": 0, "unfinished": 0}
    rest = {"fds": 10, "threads": 9, "rss_bytes": 1}
    assert Kept(**nothing, **rest).idle
    for name in nothing:
        assert not Kept(**(nothing | {name: 1}), **rest).idle


@pytest.mark.parametrize(
    ("mebibytes", "remembered", "faults"),
    [
        ((700, 713, 714), 0, []),
        ((700, 702, 720), 0, []),
        ((700, 690, 695), 0, []),
        ((700, 710, 720), 0, ["memory grew in every batch: by 10.0 MiB and 10.0 MiB after the first one"]),
        ((700, 715, 730), 100, []),
        ((700, 720, 740), 100, ["memory grew in every batch: by 20.0 MiB and 20.0 MiB after the first one"]),
    ],
)
def test_memory_that_grows_with_each_batch_is_lost(
    mebibytes: tuple[int, ...], remembered: int, faults: list[str]
) -> None:
    assert memory_faults([Kept(0, 0, 0, 0, 10, 9, size * 2**20) for size in mebibytes], remembered) == faults


def test_a_mix_is_the_same_for_its_seed_and_leaves_no_kind_out() -> None:
    mixes = [drawn(500, KINDS, random.Random(seed)) for seed in (1, 1, 2)]
    assert mixes[0] == mixes[1] != mixes[2]
    assert all(sum(mix.values()) == 500 and len(mix) == len(KINDS) for mix in mixes)


def test_each_kind_has_its_scenarios_and_a_name_of_its_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        assert scenario_path(kind.caller).exists()
        assert scenario_path(kind.application).exists()
        if kind.target is not None:
            assert TRANSFER_TO in scenario_path(kind.caller).read_text() + scenario_path(kind.application).read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SoakOptions(kinds=("nonsense",)), "no kind of call 'nonsense'"),
        (SoakOptions(calls=5), "at least"),
        (SoakOptions(rate=0), "--rate"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: SoakOptions, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        soak.run(options)
