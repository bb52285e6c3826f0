from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from recorder.errors import StorageError
from recorder.identifiers import RecordingName
from recorder.library.index import Index
from recorder.library.manifest import AudioFormat, CommittedFile, Manifest, manifest_path
from recorder.library.recovery import (
    find_unfinished,
    manifest_from_audio,
    recording_name,
    recovered_manifest,
    reindex,
)
from recorder.library.search import Filters
from recorder.library.spill import find_spills, write_spill

from .conftest import CallMaker, SampleCall


def keep(call: SampleCall, folder: Path, with_cdr: bool = True) -> Manifest:
    manifest = call.manifest_of(call.write_audio(folder)).model_copy(update={"cdr": call.cdr if with_cdr else None})
    manifest.write(folder)
    return manifest


def test_unfinished_recordings_are_listed(folder: Path, make_call: CallMaker) -> None:
    finished, unfinished = make_call(), make_call()
    keep(finished, folder)
    part = unfinished.write_audio(folder, ".wav.part").path
    (folder / "folder.part").mkdir()
    assert find_unfinished(folder) == [part]
    assert recording_name(part) == unfinished.name


def test_a_missing_folder_is_named(folder: Path) -> None:
    with pytest.raises(StorageError, match="gone: the recordings' folder cannot be read: No such file"):
        find_unfinished(folder / "gone")


@pytest.mark.parametrize("ending", [".part", ".wav.part", ".wav", ".flac", ".opus.part", ".json", ""])
def test_every_file_of_a_recording_tells_its_name(ending: str) -> None:
    name = RecordingName("a.b", "c.d", 1, "E")
    assert recording_name(Path(f"/r/a.b~c.d~1~E{ending}")) == name


def test_a_recovered_manifest_says_what_the_file_proves(folder: Path, make_call: CallMaker) -> None:
    call = make_call()
    file = call.write_audio(folder)
    os.utime(file.path, (1_800_000_000, 1_800_000_000))
    manifest = recovered_manifest(call.name, file)
    assert manifest.recovered
    assert (manifest.samples, manifest.duration_s, manifest.sha256) == (1600, 0.2, file.sha256)
    assert (manifest.started_ms, manifest.ended_ms) == (call.name.dialog_timestamp_ms, 1_800_000_000_000)
    assert (manifest.parties.calling, manifest.legs.a) == (None, None)
    assert manifest.cdr is not None
    assert (manifest.cdr["result"], manifest.cdr["reason"]) == ("failed", "recorder_restarted")


def test_a_recovered_manifest_takes_what_is_known(folder: Path, make_call: CallMaker) -> None:
    call = make_call()
    file = CommittedFile(folder / "not there", 8000, 16044, "0" * 64)
    manifest = recovered_manifest(
        call.name, file, AudioFormat(sample_rate_hz=16000), call.name.dialog_timestamp_ms + 5, call.cdr
    )
    assert (manifest.format.sample_rate_hz, manifest.duration_s) == (16000, 0.5)
    assert manifest.ended_ms == call.name.dialog_timestamp_ms + 5
    assert manifest.cdr == call.cdr


def test_a_recovered_manifest_without_a_readable_file_says_so(folder: Path, make_call: CallMaker) -> None:
    file = CommittedFile(folder / "not there", 8000, 16044, "0" * 64)
    with pytest.raises(StorageError, match="not there: no manifest can be made of it"):
        recovered_manifest(make_call().name, file)


def test_a_recovered_recording_has_the_rate_that_its_header_says(folder: Path, make_call: CallMaker) -> None:
    call = make_call()
    path = folder / call.file_name
    soundfile.write(path, [0.0] * 16000, 16000, subtype="PCM_16")
    manifest = recovered_manifest(call.name, CommittedFile(path, 16000, 32044, "0" * 64))
    assert (manifest.format.sample_rate_hz, manifest.duration_s) == (16000, 1.0)


def test_a_manifest_is_made_from_the_audio_alone(folder: Path, make_call: CallMaker) -> None:
    file = make_call(samples=4000).write_audio(folder)
    manifest = manifest_from_audio(file.path)
    assert (manifest.samples, manifest.bytes, manifest.sha256) == (4000, file.bytes, file.sha256)
    assert (manifest.format.sample_rate_hz, manifest.format.encoding) == (8000, "pcm_s16le")
    assert manifest.sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("suffix", "file_format", "subtype", "container", "encoding"),
    [
        (".wav", "WAV", "ULAW", "wav", "pcm_mulaw"),
        (".wav", "RF64", "PCM_16", "wav", "pcm_s16le"),
        (".flac", "FLAC", "PCM_16", "flac", "flac"),
        (".opus", "OGG", "OPUS", "ogg", "opus"),
    ],
)
def test_a_recording_of_any_format_is_taken_up_with_what_it_says_of_itself(
    folder: Path, index: Index, make_call: CallMaker, suffix: str, file_format: str, subtype: str,
    container: str, encoding: str
) -> None:  # fmt: skip
    call = make_call(group="a.b")
    path = folder / (call.name.stem + suffix)
    with soundfile.SoundFile(path, "w", 8000, 2, subtype, format=file_format) as sound:
        sound.date = "2023-11-14T22:13:21.500Z"
        sound.comment = "calling=302105550100 called=80%2001 encoding=ulaw"
        sound.write(np.zeros((4000, 2), np.int16))
    report = reindex(folder, index)
    assert (report.recordings, report.cdrs, report.manifests, report.problems) == (1, 1, 1, [])
    manifest = Manifest.read(folder / f"{call.name.stem}.json")
    assert manifest.file_name == path.name
    assert (manifest.samples, manifest.duration_s) == (4000, 0.5)
    assert manifest.format == AudioFormat(container=container, channels=2, encoding=encoding)  # type: ignore[arg-type]
    assert (manifest.parties.calling, manifest.parties.called) == ("302105550100", "80 01")
    assert manifest.answered_ms == 1_700_000_001_500
    assert index.get(call.name.dialog_id).file_name == path.name
    [cdr] = index.search_cdrs(Filters()).entries
    assert (cdr["file"], cdr["calling"], cdr["answered_ms"]) == (path.name, "302105550100", 1_700_000_001_500)
    again = reindex(folder, index)
    assert (again.recordings, again.manifests, again.problems) == (0, 0, [])


def test_the_manifest_of_another_format_is_no_manifest_of_it(folder: Path, index: Index, make_call: CallMaker) -> None:
    call = make_call()
    manifest = keep(call, folder)
    (folder / f"{call.name.stem}.flac").write_bytes(b"fLaC")
    report = reindex(folder, index)
    assert [entry.file_name for entry in index.search(Filters()).entries] == [manifest.file_name]
    assert len(report.problems) == 1
    assert ".flac: beside it is the manifest of" in report.problems[0]


def test_what_an_interrupted_encoding_left_goes_once_its_part_has_gone(
    folder: Path, index: Index, make_call: CallMaker
) -> None:
    done, running = make_call(), make_call()
    leftover, busy = folder / f"{done.name.stem}.flac.tmp", folder / f"{running.name.stem}.opus.tmp"
    foreign = folder / "somebody's.flac.tmp"
    for path in (leftover, busy, foreign, folder / f"{running.name.stem}.opus.part"):
        path.write_bytes(b"x")
    reindex(folder, index)
    assert not leftover.exists()
    assert busy.exists()
    assert foreign.exists()


def test_reindex_enters_what_the_index_lacks_once(folder: Path, index: Index, make_call: CallMaker) -> None:
    known, unknown = make_call(), make_call()
    index.add_call(known.cdr, keep(known, folder))
    keep(unknown, folder)
    report = reindex(folder, index)
    assert (report.recordings, report.cdrs, report.manifests, report.problems) == (1, 1, 0, [])
    assert [entry.file_name for entry in index.search(Filters()).entries] == [unknown.file_name, known.file_name]
    assert index.search_cdrs(Filters()).entries == (unknown.cdr, known.cdr)
    assert [(total.kind, total.entries) for total in index.usage_totals(0, 2**62)] == [("recording", 2)]
    again = reindex(folder, index)
    assert (again.recordings, again.cdrs, again.manifests) == (0, 0, 0)


def test_a_lost_index_is_made_anew_from_the_manifests(folder: Path, tmp_path: Path, make_call: CallMaker) -> None:
    calls = [make_call() for _ in range(450)]
    for call in calls:
        call.manifest(bytes=4, cdr=call.cdr).write(folder)
        (folder / call.file_name).write_bytes(b"RIFF")
    index = Index(tmp_path / "new.sqlite")
    try:
        said: list[tuple[int, int]] = []
        assert reindex(folder, index, progress=lambda done, of: said.append((done, of))).recordings == 450
        assert said == [(0, 450), (200, 450), (400, 450), (450, 450)]
        assert len(index.search(Filters(), 500).entries) == 450
        assert len(index.search_cdrs(Filters(), 500).entries) == 450
    finally:
        index.close()


def test_a_recording_without_manifest_gets_one_and_a_cdr(folder: Path, index: Index, make_call: CallMaker) -> None:
    call = make_call()
    file = call.write_audio(folder)
    report = reindex(folder, index)
    assert (report.recordings, report.cdrs, report.manifests, report.problems) == (1, 1, 1, [])
    assert Manifest.read(manifest_path(file.path)).recovered
    assert index.get(call.name.dialog_id).recovered
    assert index.search_cdrs(Filters()).entries[0]["reason"] == "recorder_restarted"


def test_a_known_recording_whose_manifest_is_gone_gets_one_again(
    folder: Path, index: Index, make_call: CallMaker
) -> None:
    call = make_call()
    manifest = keep(call, folder)
    index.add_call(call.cdr, manifest)
    manifest.path_in(folder).unlink()
    report = reindex(folder, index)
    assert (report.recordings, report.cdrs, report.manifests) == (0, 0, 1)
    assert manifest.path_in(folder).exists()


def test_one_bad_file_is_reported_and_the_rest_goes_on(folder: Path, index: Index, make_call: CallMaker) -> None:
    good, cut, torn, silent, lone = (make_call() for _ in range(5))
    keep(good, folder)
    os.truncate(folder / keep(cut, folder).file_name, 100)
    keep(torn, folder).path_in(folder).write_text("{")
    (folder / silent.file_name).write_bytes(b"not a wav file")
    (folder / keep(lone, folder).file_name).unlink()
    (folder / "music.wav").write_bytes(b"somebody's")
    Path(os.fsdecode(os.fsencode(folder) + b"/g~a~1~\xff.wav")).write_bytes(b"no name of ours")
    (folder / "other~thing.json").write_text("{}")
    report = reindex(folder, index)
    assert [entry.file_name for entry in index.search(Filters()).entries] == [good.file_name]
    for call, complaint in (
        (cut, "has 100 bytes, and its manifest says 3244"),
        (torn, "not a usable manifest"),
        (silent, "no manifest can be made of it"),
        (lone, "a manifest without its recording"),
    ):
        assert any(call.name.stem in problem and complaint in problem for problem in report.problems), complaint
    assert len(report.problems) == 4


def test_a_cdr_that_cannot_be_stored_holds_up_nothing_else(folder: Path, index: Index, make_call: CallMaker) -> None:
    good, bad = make_call(), make_call()
    keep(good, folder)
    bad.manifest_of(bad.write_audio(folder)).model_copy(update={"cdr": {"id": "X"}}).write(folder)
    report = reindex(folder, index)
    assert (report.recordings, report.cdrs) == (2, 1)
    assert len(report.problems) == 1


def test_what_a_running_recorder_has_in_hand_is_left_to_it(folder: Path, index: Index, make_call: CallMaker) -> None:
    fresh, settled = make_call(), make_call()
    file = fresh.write_audio(folder)
    old = time.time() - 100
    os.utime(folder / keep(settled, folder).file_name, (old, old))
    assert reindex(folder, index, settled_s=60).recordings == 1
    assert not manifest_path(file.path).exists()
    assert index.get(settled.name.dialog_id)


def test_a_file_from_the_future_is_taken_in_at_a_start(folder: Path, index: Index, make_call: CallMaker) -> None:
    future = time.time() + 1e6
    os.utime(folder / keep(make_call(), folder).file_name, (future, future))
    assert reindex(folder, index).recordings == 1


def test_leftovers_of_an_interrupted_write_are_removed(folder: Path, index: Index, make_call: CallMaker) -> None:
    call = make_call()
    keep(call, folder)
    leftover = folder / f"{make_call().name.stem}.json.tmp"
    leftover.write_text("{")
    foreign = folder / "notes.tmp"
    foreign.write_text("mine")
    reindex(folder, index)
    assert not leftover.exists()
    assert foreign.exists()


def test_cdrs_left_behind_are_taken_in_once(folder: Path, index: Index, make_call: CallMaker) -> None:
    first, second = make_call(), make_call()
    write_spill(folder, [first.unrecorded_cdr, second.unrecorded_cdr, first.unrecorded_cdr])
    index.add_call(second.unrecorded_cdr, None)
    assert reindex(folder, index).cdrs == 1
    assert len(index.search_cdrs(Filters()).entries) == 2
    assert find_spills(folder) == []


def test_a_kept_cdr_stands_before_one_made_for_a_recovered_recording(
    folder: Path, index: Index, make_call: CallMaker
) -> None:
    call = make_call()
    call.write_audio(folder)
    write_spill(folder, [call.cdr])
    reindex(folder, index)
    assert index.search_cdrs(Filters()).entries == (call.cdr,)


@pytest.mark.parametrize("break_it", [lambda path: path.write_text("{"), lambda path: path.write_text("[]\n")])
def test_left_behind_cdrs_that_cannot_be_read_stay_where_they_are(
    folder: Path, index: Index, make_call: CallMaker, break_it: Callable[[Path], None]
) -> None:
    path = write_spill(folder, [make_call().cdr])
    break_it(path)
    report = reindex(folder, index)
    assert [str(path) in problem for problem in report.problems] == [True]
    assert path.exists()


def test_an_index_that_cannot_be_written_stops_the_reindex(folder: Path, index: Index, make_call: CallMaker) -> None:
    keep(make_call(), folder)
    index.path.unlink()
    with pytest.raises(StorageError, match="removed or replaced"):
        reindex(folder, index)
