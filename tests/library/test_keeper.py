from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from recorder.errors import StorageError
from recorder.library import database, keeper
from recorder.library.index import Index
from recorder.library.keeper import EndedCall, Keeper
from recorder.library.ledger import Head
from recorder.library.manifest import CommittedFile, Manifest, manifest_path
from recorder.library.recovery import reindex
from recorder.library.search import Filters
from recorder.library.spill import find_spills, read_spill
from recorder.metrics import Metrics

from .conftest import CallMaker, SampleCall

WAIT_S = 30.0


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "FILE_BACK_OFFS_S", (0.01, 0.01, 0.01))
    monkeypatch.setattr(keeper, "LATER_S", 0.02)
    monkeypatch.setattr(keeper, "INDEX_BACK_OFF_S", 0.01)
    monkeypatch.setattr(keeper, "LAST_INDEX_BACK_OFF_S", 0.02)
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.02)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def running(index: Index, folder: Path, metrics: Metrics) -> Iterator[Keeper]:
    running = Keeper(index, folder, metrics)
    running.start()
    yield running
    running.stop(0)


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    registry: CollectorRegistry = metrics.registry
    return registry.get_sample_value(f"recorder_{name}", labels) or 0.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        threading.Event().wait(0.002)


def ended(call: SampleCall, folder: Path, **changes: Any) -> EndedCall:
    values = {
        "cdr": call.cdr,
        "commit": lambda: call.write_audio(folder),
        "manifest_of": call.manifest_of,
        "ended_monotonic": time.monotonic(),
    }
    return EndedCall(**values | changes)


def unrecorded(call: SampleCall) -> EndedCall:
    return EndedCall(call.unrecorded_cdr, None, None, time.monotonic())


class Lock:
    """Another process that holds the index's file."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def __enter__(self) -> Lock:
        self.connection.execute("BEGIN IMMEDIATE")
        return self

    def release(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def __exit__(self, *_: object) -> None:
        self.release()
        self.connection.close()


def test_an_ended_call_becomes_file_manifest_row_cdr_and_usage(
    running: Keeper, index: Index, folder: Path, metrics: Metrics, make_call: CallMaker
) -> None:
    call = make_call()
    running.submit(ended(call, folder))
    assert running.wait_idle(WAIT_S)
    entry = index.get(call.name.dialog_id)
    manifest = Manifest.read(manifest_path(folder / call.file_name))
    assert (folder / call.file_name).stat().st_size == manifest.bytes == entry.bytes
    assert manifest.cdr == call.cdr
    assert index.search_cdrs(Filters()).entries == (call.cdr,)
    assert [(total.kind, total.seconds) for total in index.usage_totals(0, 2**62)] == [("recording", 0.2)]
    assert sample(metrics, "recordings_total", outcome="kept") == 1
    assert sample(metrics, "recorded_seconds_total") == 0.2
    assert sample(metrics, "finish_seconds_count") == 1
    assert sample(metrics, "finish_queue_depth") == 0


def test_a_call_that_was_not_recorded_is_entered_too(
    running: Keeper, index: Index, metrics: Metrics, make_call: CallMaker
) -> None:
    call = make_call()
    running.submit(unrecorded(call))
    assert running.wait_idle(WAIT_S)
    assert index.search_cdrs(Filters()).entries == (call.unrecorded_cdr,)
    assert sample(metrics, "recordings_total", outcome="kept") == 0
    assert sample(metrics, "finish_seconds_count") == 1


def test_no_row_precedes_its_file_and_manifest(
    running: Keeper, index: Index, folder: Path, make_call: CallMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_calls = index.add_calls
    missing: list[str] = []

    def checked(batch: Any, ledger_head: Head | None) -> None:
        for _, manifest in batch:
            audio = folder / manifest.file_name
            if not audio.exists() or Manifest.read(manifest_path(audio)).sha256 != manifest.sha256:
                missing.append(manifest.file_name)
        add_calls(batch, ledger_head)

    monkeypatch.setattr(index, "add_calls", checked)
    calls = [make_call(samples=80) for _ in range(60)]
    for call in calls:
        running.submit(ended(call, folder))
    assert running.wait_idle(WAIT_S)
    assert missing == []
    assert len(index.search(Filters(), 500).entries) == 60


def test_waiting_calls_share_a_transaction(
    running: Keeper, index: Index, make_call: CallMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_calls = index.add_calls
    sizes: list[int] = []
    first_is_in, go_on = threading.Event(), threading.Event()

    def slow(batch: Any, ledger_head: Head | None) -> None:
        sizes.append(len(batch))
        first_is_in.set()
        assert go_on.wait(WAIT_S)
        add_calls(batch, ledger_head)

    monkeypatch.setattr(index, "add_calls", slow)
    running.submit(unrecorded(make_call()))
    assert first_is_in.wait(WAIT_S)
    for _ in range(50):
        running.submit(unrecorded(make_call()))
    go_on.set()
    assert running.wait_idle(WAIT_S)
    assert sizes == [1, 50]


def test_a_locked_index_holds_nothing_up_and_loses_nothing(
    running: Keeper, index: Index, folder: Path, metrics: Metrics, make_call: CallMaker
) -> None:
    calls = [make_call() for _ in range(5)]
    with Lock(index.path) as lock:
        for call in calls:
            running.submit(ended(call, folder))
        running.submit(unrecorded(make_call()))
        until(lambda: sample(metrics, "storage_errors_total", operation="index") >= 3)
        until(lambda: all(manifest_path(folder / call.file_name).exists() for call in calls))
        assert index.search(Filters()).entries == ()
        assert sample(metrics, "finish_queue_depth") == 6
        lock.release()
        assert running.wait_idle(WAIT_S)
    assert len(index.search(Filters()).entries) == 5
    assert len(index.search_cdrs(Filters()).entries) == 6
    assert sample(metrics, "recordings_total", outcome="kept") == 5


def test_an_index_replaced_by_rubbish_is_waited_for_until_it_is_put_back(
    running: Keeper, index: Index, folder: Path, metrics: Metrics, make_call: CallMaker
) -> None:
    first, second = make_call(), make_call()
    running.submit(ended(first, folder))
    assert running.wait_idle(WAIT_S)
    index.close()
    saved = index.path.rename(index.path.with_suffix(".saved"))
    index.path.write_bytes(b"rubbish " * 2000)
    running.submit(ended(second, folder))
    until(lambda: sample(metrics, "storage_errors_total", operation="index") >= 2)
    saved.replace(index.path)
    assert running.wait_idle(WAIT_S)
    assert len(index.search(Filters()).entries) == 2


@pytest.mark.parametrize("trouble", ["read-only", "deleted", "corrupt", "locked"])
def test_whatever_is_wrong_with_the_index_files_and_manifests_are_kept_and_entered_when_it_is_back(
    running: Keeper, index: Index, folder: Path, metrics: Metrics, make_call: CallMaker, trouble: str
) -> None:
    first, second, third = make_call(), make_call(), make_call()
    running.submit(ended(first, folder))
    assert running.wait_idle(WAIT_S)
    saved = index.path.with_suffix(".saved")
    lock = None
    if trouble == "locked":
        lock = Lock(index.path)
        lock.__enter__()
    else:
        index.close()
        index.path.rename(saved)
    if trouble == "read-only":
        index.path.symlink_to("/proc/version")  # what even root cannot write
    elif trouble == "corrupt":
        index.path.write_bytes(saved.read_bytes()[:100] + b"rubbish " * 2000)
    elif trouble == "deleted":
        index.path.mkdir()  # and cannot be made
    running.submit(ended(second, folder))
    running.submit(unrecorded(third))
    until(lambda: sample(metrics, "storage_errors_total", operation="index") >= 2)
    until(lambda: manifest_path(folder / second.file_name).exists())
    if lock is not None:
        lock.release()
    elif trouble == "deleted":
        index.path.rmdir()
        saved.rename(index.path)
    else:
        saved.replace(index.path)
    assert running.wait_idle(WAIT_S)
    assert {entry.file_name for entry in index.search(Filters()).entries} == {first.file_name, second.file_name}
    assert {cdr["id"] for cdr in index.search_cdrs(Filters()).entries} == {
        call.name.dialog_id for call in (first, second, third)
    }
    if lock is not None:
        lock.connection.close()


def test_a_commit_that_fails_at_first_is_tried_again(
    running: Keeper, index: Index, folder: Path, metrics: Metrics, make_call: CallMaker
) -> None:
    call = make_call()
    failures = [OSError(28, "No space left on device"), StorageError("still none")]

    def commit() -> CommittedFile:
        if failures:
            raise failures.pop(0)
        return call.write_audio(folder)

    running.submit(ended(call, folder, commit=commit))
    assert running.wait_idle(WAIT_S)
    assert index.get(call.name.dialog_id).file_name == call.file_name
    assert sample(metrics, "storage_errors_total", operation="commit") == 2
    assert sample(metrics, "recordings_total", outcome="kept") == 1
    assert sample(metrics, "recordings_total", outcome="failed") == 0


@pytest.mark.parametrize(
    ("error", "tries"), [(StorageError("the name is taken"), 4), (FileExistsError(), 4), (RuntimeError("a fault"), 1)]
)
def test_a_commit_that_cannot_succeed_leaves_a_cdr_that_says_so(
    running: Keeper,
    index: Index,
    folder: Path,
    metrics: Metrics,
    make_call: CallMaker,
    error: Exception,
    tries: int,
) -> None:
    failing, good = make_call(), make_call()

    def commit() -> CommittedFile:
        raise error

    running.submit(ended(failing, folder, commit=commit))
    running.submit(ended(good, folder))
    assert running.wait_idle(WAIT_S)
    assert [entry.file_name for entry in index.search(Filters()).entries] == [good.file_name]
    assert index.search_cdrs(Filters()).entries == (good.cdr, failing.unrecorded_cdr)
    assert sample(metrics, "storage_errors_total", operation="commit") == tries
    assert sample(metrics, "recordings_total", outcome="failed") == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE], ids=["full", "no descriptor"])
def test_commits_that_the_disk_refuses_wait_for_it_and_hold_nobody_up(
    running: Keeper, index: Index, folder: Path, metrics: Metrics, make_call: CallMaker, number: int
) -> None:
    refused = [make_call() for _ in range(10)]  # more than there are threads
    good = make_call()
    back = threading.Event()

    def commit_of(call: SampleCall) -> Callable[[], CommittedFile]:
        def commit() -> CommittedFile:
            if not back.is_set():
                raise StorageError("cannot be made durable") from OSError(number, os.strerror(number))
            return call.write_audio(folder)

        return commit

    for call in refused:
        running.submit(ended(call, folder, commit=commit_of(call)))
    until(lambda: sample(metrics, "storage_errors_total", operation="commit") >= 60)
    running.submit(ended(good, folder))
    until(lambda: [entry.file_name for entry in index.search(Filters()).entries] == [good.file_name])
    until(lambda: running.depth == 10)  # counted a moment after the row can be read
    back.set()
    assert running.wait_idle(WAIT_S)
    assert {entry.file_name for entry in index.search(Filters(), 50).entries} == {
        call.file_name for call in (*refused, good)
    }
    assert {str(cdr["id"]): cdr for cdr in index.search_cdrs(Filters(), 50).entries} == {
        call.name.dialog_id: call.cdr for call in (*refused, good)
    }
    assert sample(metrics, "recordings_total", outcome="kept") == 11
    assert sample(metrics, "recordings_total", outcome="failed") == 0


def test_stop_tries_once_more_what_the_disk_refused_and_the_next_start_makes_it_good(
    index: Index, folder: Path, metrics: Metrics, make_call: CallMaker
) -> None:
    call = make_call()

    def commit() -> CommittedFile:
        raise OSError(5, "Input/output error")

    stopping = Keeper(index, folder, metrics)
    stopping.start()
    stopping.submit(ended(call, folder, commit=commit))
    until(lambda: sample(metrics, "storage_errors_total", operation="commit") >= 4)
    assert stopping.stop(WAIT_S) == 0
    assert index.search_cdrs(Filters()).entries == (call.unrecorded_cdr,)
    call.write_audio(folder)  # what is left of it is repaired at the next start
    reindex(folder, index)
    assert index.search_cdrs(Filters()).entries == (call.cdr,)


def test_a_manifest_that_cannot_be_written_keeps_the_recording_in_reach(
    running: Keeper, index: Index, folder: Path, metrics: Metrics, make_call: CallMaker
) -> None:
    call = make_call()
    manifest_path(folder / call.file_name).mkdir()
    running.submit(ended(call, folder))
    assert running.wait_idle(WAIT_S)
    assert index.get(call.name.dialog_id).file_name == call.file_name
    assert sample(metrics, "storage_errors_total", operation="manifest") == 4


def test_a_manifest_that_cannot_be_made_is_replaced_by_what_the_file_proves(
    running: Keeper, index: Index, folder: Path, metrics: Metrics, make_call: CallMaker
) -> None:
    call = make_call()

    def manifest_of(_: object) -> Manifest:
        raise KeyError("codec")

    running.submit(ended(call, folder, manifest_of=manifest_of))
    assert running.wait_idle(WAIT_S)
    assert index.get(call.name.dialog_id).recovered
    assert Manifest.read(manifest_path(folder / call.file_name)).cdr == call.cdr
    assert sample(metrics, "storage_errors_total", operation="manifest") == 1


def test_an_entry_the_index_never_takes_does_not_hold_up_the_others(
    running: Keeper, index: Index, folder: Path, metrics: Metrics, make_call: CallMaker
) -> None:
    before, known, after = make_call(), make_call(), make_call()
    index.add_call(None, known.manifest())
    with Lock(index.path) as lock:
        for call in (before, known, after):
            running.submit(ended(call, folder))
        bad = make_call()
        running.submit(EndedCall(bad.unrecorded_cdr | {"result": None}, None, None, time.monotonic()))
        until(lambda: len(list(folder.glob("*.json"))) == 3)
        lock.release()
        assert running.wait_idle(WAIT_S)
    assert len(index.search(Filters()).entries) == 3
    assert {cdr["id"] for cdr in index.search_cdrs(Filters()).entries} == {
        call.name.dialog_id for call in (before, known, after)
    }
    assert sample(metrics, "storage_errors_total", operation="entry") == 2


def test_a_fault_of_the_index_itself_ends_nothing(
    running: Keeper, index: Index, metrics: Metrics, make_call: CallMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(index, "add_calls", lambda *_: 1 / 0)
        running.submit(unrecorded(make_call()))
        until(lambda: sample(metrics, "storage_errors_total", operation="index") >= 2)
    assert running.wait_idle(WAIT_S)
    assert len(index.search_cdrs(Filters()).entries) == 1


def test_a_deep_queue_raises_the_alarm_and_refuses_nothing(
    index: Index, folder: Path, metrics: Metrics, make_call: CallMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    small = Keeper(index, folder, metrics, alarm_depth=3)
    for _ in range(10):
        small.submit(unrecorded(make_call()))
    assert sample(metrics, "finish_queue_depth") == small.depth == 10
    output = capsys.readouterr()
    assert (output.out + output.err).count("finish_queue_long") == 1
    small.start()
    assert small.stop(WAIT_S) == 0
    assert len(index.search_cdrs(Filters()).entries) == 10


def test_stop_finishes_what_is_queued(index: Index, folder: Path, metrics: Metrics, make_call: CallMaker) -> None:
    stopping = Keeper(index, folder, metrics)
    calls = [make_call(samples=80) for _ in range(50)]
    for call in calls:
        stopping.submit(ended(call, folder))
    stopping.start()
    assert stopping.stop(WAIT_S) == 0
    assert len(index.search(Filters(), 500).entries) == 50
    assert find_spills(folder) == []


def test_stop_with_a_dead_index_leaves_everything_for_the_next_start(
    index: Index, folder: Path, metrics: Metrics, make_call: CallMaker
) -> None:
    recorded, not_recorded = make_call(), make_call()
    stopping = Keeper(index, folder, metrics)
    stopping.start()
    with Lock(index.path):
        stopping.submit(ended(recorded, folder))
        stopping.submit(unrecorded(not_recorded))
        until(lambda: manifest_path(folder / recorded.file_name).exists())
        assert stopping.stop(0.1) == 2
        assert stopping.stop(0.1) == 2
    assert [read_spill(path) for path in find_spills(folder)] == [[not_recorded.unrecorded_cdr]]
    reindex(folder, index)
    assert index.search_cdrs(Filters()).entries == (not_recorded.unrecorded_cdr, recorded.cdr)
    assert index.get(recorded.name.dialog_id).file_name == recorded.file_name


def test_stop_does_not_wait_for_a_hung_disk(index: Index, folder: Path, metrics: Metrics, make_call: CallMaker) -> None:
    hung = threading.Event()
    calls = [make_call() for _ in range(6)]

    def commit() -> CommittedFile:
        hung.wait(WAIT_S)
        raise OSError(5, "Input/output error")

    stopping = Keeper(index, folder, metrics)
    stopping.start()
    for call in calls:
        stopping.submit(ended(call, folder, commit=commit))
    assert stopping.stop(0.1) == 6
    (spill,) = find_spills(folder)
    assert sorted(cdr["id"] for cdr in read_spill(spill)) == [call.name.dialog_id for call in calls]
    hung.set()
    for thread in stopping._file_threads:
        thread.join(WAIT_S)


def test_a_spill_that_cannot_be_written_puts_the_cdrs_in_the_log(
    index: Index, folder: Path, metrics: Metrics, make_call: CallMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    call = make_call()
    stopping = Keeper(index, folder / "gone", metrics)
    stopping.start()
    with Lock(index.path):
        stopping.submit(unrecorded(call))
        until(lambda: sample(metrics, "storage_errors_total", operation="index") >= 1)
        assert stopping.stop(0.05) == 1
    output = capsys.readouterr()
    assert call.name.dialog_id in output.out + output.err
    assert sample(metrics, "storage_errors_total", operation="spill") == 1


def test_submit_never_waits_for_the_index(
    running: Keeper, index: Index, make_call: CallMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    in_index = threading.Event()
    add_calls = index.add_calls

    def stuck(batch: Any, ledger_head: Head | None) -> None:
        in_index.set()
        assert go_on.wait(WAIT_S)
        add_calls(batch, ledger_head)

    monkeypatch.setattr(index, "add_calls", stuck)
    running.submit(unrecorded(make_call()))
    assert in_index.wait(WAIT_S)
    for _ in range(1000):
        running.submit(unrecorded(make_call()))
    assert running.depth == 1001
    go_on.set()
    assert running.wait_idle(WAIT_S)
    with closing(Index(index.path)) as again:
        assert len(again.search_cdrs(Filters(), 500).entries) == 500
