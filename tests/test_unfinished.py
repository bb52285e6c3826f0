"""What an earlier process left that takes long to finish is finished beside the running calls, once and one by one."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from recorder.file_format import FileFormat
from recorder.identifiers import RecordingName
from recorder.library import keeper
from recorder.library.index import Index
from recorder.library.keeper import Keeper
from recorder.library.manifest import Manifest, manifest_path
from recorder.library.search import Filters
from recorder.media.part_file import PartFile, WrittenFile, look_into, repair
from recorder.metrics import Metrics
from recorder.tags import Tags
from recorder.unfinished import Unfinished, takes_long
from tests.tones import RATE, is_tone, read_wav, sine


@dataclass
class Library:
    """A folder of recordings, its index and keeper."""

    folder: Path
    index: Index
    keeper: Keeper
    metrics: Metrics
    count: int = 0
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def dead(self, one: FileFormat, seconds: float = 1) -> Path:
        """A `.part` as a process leaves it that is killed."""
        self.count += 1
        name = RecordingName("acme", "sales", 1_795_371_900_000 + self.count, f"D{self.count}")
        tags = Tags(name.dialog_id, "302105550100", "800", name.dialog_timestamp_ms + 900)
        part = PartFile.create(self.folder / (name.stem + one.suffix), RATE, one, tags=tags)
        part.write(sine(440, seconds))
        part.abandon()
        return part.path

    def repair(self, part: Path) -> WrittenFile:
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return repair(part)
        finally:
            with self.lock:
                self.at_once -= 1


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    folder = tmp_path / "recordings"
    folder.mkdir()
    index, metrics = Index(tmp_path / "index.sqlite"), Metrics()
    keeper = Keeper(index, folder, metrics)
    keeper.start()
    yield Library(folder, index, keeper, metrics)
    keeper.stop(5)
    index.close()


def test_only_what_has_to_be_encoded_at_length_takes_long() -> None:
    slow = {one: takes_long(Path(f"a~b~1~c{one}.part")) for one in (".wav", ".flac", ".opus")}
    assert slow == {".wav": False, ".flac": True, ".opus": True}


def test_each_is_made_and_indexed_and_one_at_a_time(library: Library) -> None:
    parts = [library.dead(FileFormat(encoding)) for encoding in ("flac", "opus", "flac", "flac")]
    unfinished = Unfinished(parts, library.keeper, library.repair, look_into)
    unfinished.start()
    unfinished._thread.join(20)
    assert library.keeper.wait_idle(20)
    unfinished.stop()
    assert library.most_at_once == 1
    entries = library.index.search(Filters()).entries
    assert sorted(entry.file_name for entry in entries) == sorted(part.stem for part in parts)
    for entry in entries:
        path = library.folder / entry.file_name
        assert is_tone(read_wav(path)[0][800:-800], 440)
        manifest = Manifest.read(manifest_path(path))
        assert manifest.recovered
        assert (manifest.parties.called, manifest.answered_ms) == ("800", manifest.started_ms + 900)
        assert manifest.format.container == ("flac" if path.suffix == ".flac" else "ogg")
    cdrs = library.index.search_cdrs(Filters()).entries
    assert {(cdr["file"], cdr["called"], cdr["duration_s"], cdr["reason"]) for cdr in cdrs} == {
        (entry.file_name, "800", 1.0, "recorder_restarted") for entry in entries
    }
    counted = library.metrics.registry.get_sample_value("recorder_recordings_total", {"outcome": "recovered"})
    assert counted == 4


def test_a_cdr_that_is_there_stays_the_only_one(library: Library) -> None:
    part = library.dead(FileFormat("flac"))
    name = RecordingName.parse(part.name.removesuffix(".flac.part"))
    known = {
        "id": name.dialog_id,
        "time": name.dialog_timestamp_ms,
        "group_id": "acme",
        "account_id": "sales",
        "calling": "302105550100",
        "called": "800",
        "result": "completed",
        "reason": "caller_hangup",
        "answered_ms": None,
        "ended_ms": name.dialog_timestamp_ms,
        "duration_s": 1.0,
        "sip_status": None,
        "a_sip_call_id": "x",
        "b_sip_call_id": None,
        "recorded": False,
        "file": None,
        "details": {},
    }
    library.index.add_call(known, None)
    unfinished = Unfinished([part], library.keeper, repair, look_into)
    unfinished.start()
    unfinished._thread.join(20)
    assert library.keeper.wait_idle(20)
    unfinished.stop()
    [cdr] = library.index.search_cdrs(Filters()).entries
    assert (cdr["reason"], cdr["recorded"], cdr["file"]) == ("caller_hangup", True, part.stem)


def test_what_cannot_be_read_holds_up_nothing_and_stays(library: Library) -> None:
    bad = library.folder / "acme~sales~5~X.flac.part"
    bad.write_bytes(b"something else" * 100)
    good = library.dead(FileFormat("flac"))
    unfinished = Unfinished([bad, good], library.keeper, repair, look_into)
    unfinished.start()
    unfinished._thread.join(20)
    assert library.keeper.wait_idle(20)
    unfinished.stop()
    assert bad.exists()
    assert [entry.file_name for entry in library.index.search(Filters()).entries] == [good.stem]


def test_a_manifest_that_finds_no_room_at_first_is_written_later(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "FILE_BACK_OFFS_S", (0.01,))
    monkeypatch.setattr(keeper, "LATER_S", 0.02)
    write, left = Manifest.write, [4]

    def refused(manifest: Manifest, folder: Path) -> Path:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "no space")
        return write(manifest, folder)

    monkeypatch.setattr(Manifest, "write", refused)
    part = library.dead(FileFormat("flac"))
    unfinished = Unfinished([part], library.keeper, repair, look_into)
    unfinished.start()
    unfinished._thread.join(20)
    assert library.keeper.wait_idle(20)
    unfinished.stop()
    [entry] = library.index.search(Filters()).entries
    assert Manifest.read(manifest_path(library.folder / entry.file_name)).recovered


def test_it_stops_between_two_of_them(library: Library) -> None:
    parts = [library.dead(FileFormat("flac")) for _ in range(3)]
    begun, go_on = threading.Event(), threading.Event()

    def slowly(part: Path) -> WrittenFile:
        begun.set()
        assert go_on.wait(20)
        return repair(part)

    unfinished = Unfinished(parts, library.keeper, slowly, look_into)
    unfinished.start()
    assert begun.wait(20)
    unfinished.stop()
    go_on.set()
    assert library.keeper.wait_idle(20)
    assert [part.exists() for part in parts] == [False, True, True]
