"""A recording whose process died says in its manifest what it would have said, had it come to its end."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest

from recorder.diary import Diary
from recorder.errors import StorageError
from recorder.facts import Facts
from recorder.identifiers import RecordingName
from recorder.library.journal import journal_path
from recorder.library.manifest import LegFacts, Legs, Manifest
from recorder.media.part_file import repair
from recorder.media.redaction import Mode
from recorder.media.source import Cause
from recorder.unfinished import manifest_of
from tests.media.calls import RATE, Call
from tests.media.disk import no_more_files, small_disk
from tests.media.taps import FakeTap

NAME = RecordingName("acme", "sales", 1_795_371_900_000, "D" * 32)
CDR = {"id": NAME.dialog_id, "time": NAME.dialog_timestamp_ms, "result": "failed", "reason": "recorder_restarted"}


class Lossy(FakeTap):
    """A tap that says what its sender's packets lacked."""

    def __init__(self) -> None:
        super().__init__()
        self.lacked: list[tuple[Cause, int, int]] = []

    def take_gaps(self, last: bool) -> list[tuple[Cause, int, int]]:  # noqa: ARG002
        gaps, self.lacked = self.lacked, []
        return gaps


def made(folder: Path, mode: Mode = "mute") -> tuple[Call, Diary]:
    diary = Diary(mode)
    call = Call(folder / f"{NAME.stem}.wav", mode=mode, journal=diary.line)
    return call, diary


def dead(call: Call, folder: Path) -> Manifest:
    """What the next start makes of the recording, were the process to die now."""
    elsewhere = folder / "after"
    shutil.rmtree(elsewhere, ignore_errors=True)
    elsewhere.mkdir()
    part = call.recording.path.with_name(call.recording.path.name + ".part")
    for path in (part, journal_path(part)):
        shutil.copy(path, elsewhere)
    part = elsewhere / part.name
    return manifest_of(part, repair(part))


def alike(told: Manifest, call: Call) -> None:
    """Everything up to the end of the file is as the recording itself would say."""
    facts = Facts(call.recording.in_file, RATE)
    end = told.samples
    for name, mine in (("gaps", facts.gaps(call.recording.gaps)), ("tones_removed", facts.tones([]))):
        assert getattr(told, name) == tuple(
            fact if fact.start_sample + fact.samples <= end else None for fact in mine if fact.start_sample < end
        )


def test_network_gaps_holds_and_losses_are_told(tmp_path: Path) -> None:
    call, diary = made(tmp_path)
    diary.tell(CDR | {"details": {"trunk": "t", "end_s": 1}}, Legs(a=LegFacts(sip_call_id="x", rx_packets=None)))
    call.a = tap = Lossy()
    call.recording.replace("a", tap)
    call.talk_and_pump(1)
    for number in range(40):
        tap.lacked = [("loss", call.origin + 8000 + 400 * number, 160)]
        if number == 20:
            tap.lacked.append(("late", call.origin + 8000, 80))
            call.recording.hold(call.clock, True)
            tap.lacked.append(("no_rtp", call.clock - 100, 5000))
        call.talk_and_pump(0.2)
    call.recording.spool.lose("storage", call.recording.samples, 320)
    call.recording.pump()
    call.talk_and_pump(1.4)
    told = dead(call, tmp_path)
    assert {gap.cause for gap in told.gaps} == {"loss", "late", "hold", "storage"}
    assert len(told.gaps) == 43
    alike(told, call)
    assert sum(total.gaps for total in told.gap_totals) == len(told.gaps)
    assert told.legs.a == LegFacts(sip_call_id="x", rx_packets=None)
    assert told.cdr is not None
    assert told.cdr["details"] == {"trunk": "t", "recovered": True}
    assert told.cdr["duration_s"] == pytest.approx(told.duration_s)


def test_a_call_that_had_ended_keeps_its_true_end(tmp_path: Path) -> None:
    call, diary = made(tmp_path)
    call.talk_and_pump(1)
    ended = {"result": "completed", "reason": "caller_hangup", "ended_ms": 5, "duration_s": 1.0, "details": {}}
    diary.tell(CDR | ended, Legs())
    call.recording.finish(call.clock)
    call.recording.spool.flush(0)
    told = dead(call, tmp_path)
    assert told.cdr is not None
    assert told.cdr.items() >= {"reason": "caller_hangup", "ended_ms": 5, "recorded": True}.items()


@pytest.mark.parametrize("mode", ["mute", "pause"])
def test_steps_one_after_another_are_told_at_any_moment(tmp_path: Path, mode: Mode) -> None:
    call, _ = made(tmp_path, mode)
    call.talk_and_pump(1)
    for number in range(4):
        call.recording.redactions.begin(call.clock, str(number), "application")
        call.talk_and_pump(0.6)
        told = dead(call, tmp_path)
        assert [fact.step for fact in told.redactions] == [str(one) for one in range(number + 1)]
        call.recording.redactions.end(call.clock, str(number))
        call.talk_and_pump(1.4)
        told = dead(call, tmp_path)
        facts = Facts(call.recording.in_file, RATE)
        assert told.redactions == facts.redactions(call.recording.spans())
        assert told.joins == facts.joins(call.recording.joins)
        assert len(told.joins) == (number + 1 if mode == "pause" else 0)
    journal = journal_path(tmp_path / f"{NAME.stem}.wav.part").read_text()
    assert journal.count('"step":"0"') <= 8, "what is settled is not said again"


def test_a_journal_that_goes_with_its_folder_is_written_anew(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    call, diary = made(folder)
    diary.tell(CDR, Legs())
    call.talk_and_pump(1)
    call.recording.redactions.begin(call.clock, "card", "application")
    call.talk_and_pump(1)
    call.recording.redactions.end(call.clock, "card")
    call.recording.spool.lose("storage", call.recording.samples, 320)
    call.talk_and_pump(1)
    before = dead(call, tmp_path)
    shutil.rmtree(folder)
    call.talk_and_pump(2)
    after = dead(call, tmp_path)
    assert after.redactions == before.redactions
    assert [(gap.cause, gap.start_sample) for gap in after.gaps] == [
        (gap.cause, gap.start_sample) for gap in before.gaps
    ]
    assert after.cdr is not None
    assert after.samples > before.samples


def test_the_journal_grows_with_the_call_and_no_faster(tmp_path: Path) -> None:
    call, _ = made(tmp_path)
    call.a = tap = Lossy()
    call.recording.replace("a", tap)
    sizes = []
    silent = np.zeros(1600, np.int16)
    for _ in range(2):
        for _ in range(300):
            tap.lacked = [("loss", call.clock - 3200, 160)]
            for side in (call.a, call.b):
                side.put(silent, at=call.clock)
            call.clock += len(silent)
            call.pump()
        sizes.append(journal_path(tmp_path / f"{NAME.stem}.wav.part").stat().st_size)
    assert sizes[1] < 2.2 * sizes[0]
    assert sizes[0] < 60 * 300, "a line a second"


def test_nothing_is_lost_while_no_file_can_be_opened(tmp_path: Path) -> None:
    call, _ = made(tmp_path)
    with no_more_files():
        call.talk_and_pump(2)
    call.talk_and_pump(2)
    with no_more_files():
        call.recording.redactions.begin(call.clock, "card", "application")
        call.talk_and_pump(1)
        call.recording.redactions.end(call.clock, "card")
        call.talk_and_pump(1)
    call.talk_and_pump(1)
    told = dead(call, tmp_path)
    assert [fact.step for fact in told.redactions] == ["card"]
    call.recording.finish(call.clock)
    with no_more_files(), pytest.raises(StorageError) as refused:
        call.recording.commit()
    assert isinstance(refused.value.__cause__, OSError)
    assert refused.value.__cause__.errno == errno.EMFILE
    assert call.recording.commit().samples == 7 * RATE
    assert call.recording.gaps == ()


def test_a_disk_without_room_for_another_file_takes_the_journal_later(tmp_path: Path) -> None:
    try:
        with small_disk(tmp_path / "disk", 1000, files=2) as folder:
            (folder / "ballast").touch()
            call, _ = made(folder)
            call.talk_and_pump(1)
            call.recording.redactions.begin(call.clock, "card", "application")
            call.talk_and_pump(1)
            assert not journal_path(folder / f"{NAME.stem}.wav.part").exists()
            (folder / "ballast").unlink()
            call.recording.redactions.end(call.clock, "card")
            call.talk_and_pump(1)
            assert [fact.resumed for fact in dead(call, tmp_path).redactions] == [True]
            journal_path(folder / f"{NAME.stem}.wav.part").unlink()  # a tmpfs counts a second name as a file
            call.end()
    except PermissionError as error:
        pytest.skip(str(error))
