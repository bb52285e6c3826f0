"""What a recording whose process died has to say of its redactions, gaps and joins."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorder.library.journal import SoFar, journal_path, remember, remove_orphans
from recorder.library.manifest import GapFacts, JoinFacts, Manifest, RedactionFacts

from .conftest import CallMaker


def redaction(start: int, samples: int, resumed: bool = True) -> RedactionFacts:
    rate = 8000
    return RedactionFacts(
        start_sample=start,
        samples=samples,
        start_s=start / rate,
        duration_s=samples / rate,
        call_start_s=start / rate,
        call_duration_s=samples / rate,
        step="card",
        control="application",
        resumed=resumed,
    )


@pytest.fixture
def recovered(make_call: CallMaker) -> Manifest:
    return make_call(samples=16000).manifest(redactions=(), gaps=(), recovered=True)


def test_the_last_whole_line_counts_and_what_is_open_ends_with_the_file(folder: Path, recovered: Manifest) -> None:
    part = folder / (recovered.file_name + ".part")
    first = SoFar(redaction_mode="mute", redactions=(redaction(800, 1 << 40, resumed=False),))
    gap = GapFacts(leg="both", cause="storage", start_sample=15000, samples=4000, start_s=1.875, duration_s=0.5)
    second = SoFar(
        redaction_mode="mute",
        redactions=(redaction(800, 800), redaction(12000, 1 << 40, resumed=False), redaction(20000, 800)),
        gaps=(gap,),
    )
    torn = first.model_dump_json()[:-10]
    journal_path(part).write_text(first.model_dump_json() + "\n" + second.model_dump_json() + "\n" + torn)
    told = remember(part, recovered)
    assert told.redactions == (redaction(800, 800), redaction(12000, 4000, resumed=False))
    assert [(fact.start_sample, fact.samples) for fact in told.gaps] == [(15000, 1000)]
    assert told.redaction_mode == "mute"


def test_where_a_step_was_left_out_of_the_file(folder: Path, recovered: Manifest) -> None:
    part = folder / (recovered.file_name + ".part")
    join = JoinFacts(sample=16000, start_s=2, call_s=2, left_out_s=3)
    so_far = SoFar(redaction_mode="pause", redactions=(redaction(16000, 0, resumed=False),), joins=(join,))
    journal_path(part).write_text(so_far.model_dump_json() + "\n")
    told = remember(part, recovered)
    assert told.joins == (join,)
    assert len(told.redactions) == 1


@pytest.mark.parametrize("content", [None, "", "{", "{}\n", "[1]\n\n"])
def test_without_a_journal_that_can_be_read_the_manifest_stays_as_it_is(
    folder: Path, recovered: Manifest, content: str | None
) -> None:
    part = folder / (recovered.file_name + ".part")
    if content is not None:
        journal_path(part).write_text(content)
    assert remember(part, recovered) == recovered


def test_journals_of_finished_recordings_are_removed(folder: Path) -> None:
    kept, orphan = folder / "a.wav.part", folder / "b.wav.part"
    kept.write_bytes(b"")
    for part in (kept, orphan):
        journal_path(part).write_text("{}\n")
    remove_orphans(folder)
    assert journal_path(kept).exists()
    assert not journal_path(orphan).exists()
