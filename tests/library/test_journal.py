"""What a recording whose process died has to say of itself: the lines of its journal, put together again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recorder.library.journal import journal_path, read, remove_orphans


def redaction(start: int, samples: int) -> dict[str, Any]:
    seconds = {"start_s": start / 8000, "duration_s": samples / 8000}
    return {"start_sample": start, "samples": samples, **seconds, "control": "application", "resumed": True}


def write(part: Path, *lines: dict[str, Any], end: str = "\n") -> None:
    journal_path(part).write_text("\n".join(map(json.dumps, lines)) + end)


def test_lines_add_up_and_what_changed_takes_the_place_of_what_was(tmp_path: Path) -> None:
    part = tmp_path / "a.wav.part"
    lost, gap = ["lost", "storage", 0, 160], ["gap", "a", "loss", 800, 160]
    write(
        part,
        {"number": 0, "redaction_mode": "mute", "redactions": [redaction(0, 80), redaction(100, 1 << 40)]},
        {"number": 1, "happened": [lost]},
        {"number": 2, "redactions_from": 1, "redactions": [redaction(100, 80), redaction(300, 80)], "happened": [gap]},
    )
    told = read(part)
    assert told is not None
    assert [(one.start_sample, one.samples) for one in told.redactions] == [(0, 80), (100, 80), (300, 80)]
    assert [list(one) for one in told.happened] == [lost, gap]
    assert told.redaction_mode == "mute"


def test_a_line_that_was_written_twice_counts_once_and_a_torn_one_not_at_all(tmp_path: Path) -> None:
    part = tmp_path / "a.wav.part"
    lines = [{"number": number, "happened": [["lost", "storage", 160 * number, 160]]} for number in range(3)]
    text = [json.dumps(line) for line in lines]
    journal_path(part).write_text("\n".join([text[0], text[1][:-9], text[0], text[1], text[2][:-1]]))
    told = read(part)
    assert told is not None
    assert [one[2] for one in told.happened] == [0, 160]


def test_after_a_disk_that_has_lost_the_lines_all_is_said_again(tmp_path: Path) -> None:
    part = tmp_path / "a.wav.part"
    write(
        part,
        {"number": 0, "redactions": [redaction(0, 80)], "happened": [["hold", 0, True]], "cdr": {"id": "D"}},
        {"number": 7, "whole": True, "redactions": [redaction(50, 80)]},
    )
    told = read(part)
    assert told is not None
    assert [one.start_sample for one in told.redactions] == [50]
    assert told.happened == []
    assert told.cdr == {"id": "D"}


@pytest.mark.parametrize("content", [None, "", "{", "{}\n", "[1]\n\n", '{"number":0,"happened":[["gap","x"]]}\n'])
def test_what_cannot_be_read_says_nothing(tmp_path: Path, content: str | None) -> None:
    part = tmp_path / "a.wav.part"
    if content is not None:
        journal_path(part).write_text(content)
    assert read(part) is None


def test_journals_of_finished_recordings_are_removed(tmp_path: Path) -> None:
    names = {name: tmp_path / f"{name}.wav.part" for name in ("unfinished", "without manifest", "whole", "gone")}
    for part in names.values():
        write(part, {"number": 0})
    names["unfinished"].write_bytes(b"")
    for name in ("without manifest", "whole"):
        names[name].with_suffix("").write_bytes(b"")
    (tmp_path / "whole.json").write_bytes(b"")
    remove_orphans(tmp_path)
    assert [name for name, part in names.items() if journal_path(part).exists()] == ["unfinished", "without manifest"]
