from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from recorder.errors import StorageError
from recorder.identifiers import RecordingName
from recorder.library.index import Index
from recorder.library.manifest import GapFacts, Manifest, NameParts, manifest_path

from .conftest import CallMaker, SampleCall


def test_a_manifest_comes_back_as_it_was_written(folder: Path, make_call: CallMaker) -> None:
    manifest = make_call().manifest(cdr={"id": "X", "details": {"setup_s": 0.25}}, dropped_samples=3)
    path = manifest.write(folder)
    assert path.name == manifest.file_name.replace(".wav", ".json")
    assert Manifest.read(path) == manifest


def test_the_manifest_on_disk_has_the_documented_keys(folder: Path, make_call: CallMaker) -> None:
    content = json.loads(make_call().manifest().write(folder).read_text())
    assert set(content) == {
        *(
            "schema_version",
            "recorder_version",
            "name",
            "file_name",
            "format",
            "duration_s",
            "samples",
            "bytes",
            "sha256",
        ),
        *(
            "started_ms",
            "answered_ms",
            "ended_ms",
            "parties",
            "legs",
            "gaps",
            "gap_totals",
            "redactions",
            "dropped_samples",
        ),
        *("recovered", "cdr", "encrypted", "signature", "call_duration_s", "redaction_mode", "joins", "tones_removed"),
    }
    assert content["format"] == {
        "container": "wav",
        "sample_rate_hz": 8000,
        "channels": 1,
        "encoding": "pcm_s16le",
    }
    assert set(content["gaps"][0]) == {
        *("leg", "cause", "start_sample", "samples", "start_s", "duration_s", "call_start_s", "call_duration_s"),
    }
    assert set(content["redactions"][0]) == {
        *("start_sample", "samples", "start_s", "duration_s", "step", "control", "operators", "resumed"),
        *("call_start_s", "call_duration_s"),
    }


def test_writing_leaves_no_temporary_file_and_replaces_what_was_there(folder: Path, make_call: CallMaker) -> None:
    call = make_call()
    call.manifest(dropped_samples=1).write(folder)
    path = call.manifest(dropped_samples=2).write(folder)
    assert [entry.name for entry in folder.iterdir()] == [path.name]
    assert Manifest.read(path).dropped_samples == 2


def test_what_was_said_to_whom_is_not_for_everyone_to_read(folder: Path, index: Index, make_call: CallMaker) -> None:
    path = make_call().manifest().write(folder)
    index.check_writable()
    for each in (path, index.path, index.path.with_name("index.sqlite-wal")):
        assert each.stat().st_mode & 0o007 == 0


def test_writing_where_it_cannot_be_says_where(folder: Path, make_call: CallMaker) -> None:
    with pytest.raises(StorageError, match=r"gone/.*\.json: cannot be written: No such file"):
        make_call().manifest().write(folder / "gone")


def test_a_failed_rename_leaves_no_temporary_file(folder: Path, make_call: CallMaker) -> None:
    manifest = make_call().manifest()
    manifest.path_in(folder).mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        manifest.write(folder)
    assert list(folder.glob("*.tmp")) == []


def test_a_manifest_is_immutable(make_call: CallMaker) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_call().manifest().samples = 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema_version": 2}, "schema_version 2 is not one this recorder reads; it reads 1"),
        ({"sha256": "x"}, "sha256: String should match"),
        ({"samples": -1}, "samples: Input should be greater than or equal to 0"),
        ({"samples": None}, "samples: Input should be a valid integer"),
        ({"novelty": 1}, "novelty: Extra inputs are not permitted"),
        ({"gaps": [{"leg": "c"}]}, "gaps.0.leg: Input should be 'a', 'b' or 'both'"),
        ({"file_name": "g~a~1~B.wav"}, "does not fit its name parts"),
        ({"name": {"group_id": "..", "account_id": "a", "dialog_timestamp_ms": 1, "dialog_id": "D"}}, "group_id '..'"),
    ],
)
def test_reading_says_which_file_and_what(
    folder: Path, make_call: CallMaker, change: dict[str, Any], complaint: str
) -> None:
    path = make_call().manifest().write(folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StorageError) as caught:
        Manifest.read(path)
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"samples": NaN}'])
def test_reading_what_is_no_manifest_says_which_file(folder: Path, content: bytes) -> None:
    path = folder / "g~a~1~D.json"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"g~a~1~D\.json: not a usable manifest"):
        Manifest.read(path)


def test_reading_a_missing_manifest_says_which(folder: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.json: the manifest cannot be read: No such file"):
        Manifest.read(folder / "none.json")


def test_a_manifest_under_another_name_is_refused(folder: Path, make_call: CallMaker) -> None:
    path = make_call().manifest().write(folder)
    other = path.rename(folder / "g~a~1~D.json")
    with pytest.raises(StorageError, match="the manifest of another recording"):
        Manifest.read(other)


def test_a_group_with_dots_keeps_its_whole_name() -> None:
    assert manifest_path(Path("/r/a.b~c.d~1~E.wav")) == Path("/r/a.b~c.d~1~E.json")


@given(
    gaps=st.lists(st.tuples(st.sampled_from(["a", "b", "both"]), st.integers(0, 2**40), st.integers(0, 2**31))),
    calling=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_any_content_survives_being_json(gaps: list[tuple[Any, int, int]], calling: str) -> None:
    call = SampleCall(1, RecordingName("g", "a", 1, "D"), 8000)
    facts = tuple(
        GapFacts(leg=leg, cause="hold", start_sample=start, samples=n, start_s=start / 8000, duration_s=n / 8000)
        for leg, start, n in gaps
    )
    manifest = call.manifest(gaps=facts, parties={"calling": calling, "called": "é\n"}, name=NameParts.of(call.name))
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
