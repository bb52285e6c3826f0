from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from recorder.errors import InvalidRequestError, NotFoundError, StorageError
from recorder.library import database
from recorder.library.database import EntryError
from recorder.library.index import Index, UsageTotal
from recorder.library.schema import CDRS, RECORDINGS, SCHEMA_VERSION, USAGE
from recorder.library.search import Filters, cdrs_query, recordings_query

from .conftest import T0, CallMaker, SampleCall


def add(index: Index, *calls: SampleCall) -> None:
    index.add_calls([(call.cdr, call.manifest()) for call in calls])


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def rows(path: Path, query: str) -> list[Any]:
    with raw(path) as connection:
        return connection.execute(query).fetchall()


@contextmanager
def held_by_another(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    with raw(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def test_an_added_call_is_found_with_all_its_facts(index: Index, make_call: CallMaker) -> None:
    call = make_call()
    manifest = call.manifest(dropped_samples=7, recovered=True)
    index.add_call(call.cdr, manifest)
    entry = index.get(call.name.dialog_id)
    assert entry.file_name == call.file_name
    assert (entry.group_id, entry.account_id) == ("group", "account")
    assert (entry.calling, entry.called) == (call.cdr["calling"], "8001")
    assert (entry.samples, entry.bytes, entry.sha256) == (manifest.samples, manifest.bytes, manifest.sha256)
    assert (entry.gaps, entry.redactions, entry.dropped_samples) == (1, 1, 7)
    assert entry.recovered is True
    assert index.search_cdrs(Filters()).entries == (call.cdr,)


def test_a_call_that_was_not_recorded_leaves_a_cdr_alone(index: Index, make_call: CallMaker) -> None:
    call = make_call()
    index.add_call(call.unrecorded_cdr, None)
    assert index.search_cdrs(Filters()).entries == (call.unrecorded_cdr,)
    assert index.search(Filters()).entries == ()
    assert index.usage_totals(0, T0 * 2) == ()


def test_of_two_recordings_of_a_dialog_the_newest_is_got(index: Index, make_call: CallMaker) -> None:
    old, new = make_call(dialog="MAPPED"), make_call(dialog="MAPPED")
    add(index, new)
    add(index, old)
    assert index.get("MAPPED").file_name == new.file_name


def test_an_unknown_dialog_is_not_found(index: Index) -> None:
    with pytest.raises(NotFoundError, match="NONE"):
        index.get("NONE")


def test_a_batch_is_kept_whole_or_not_at_all(index: Index, make_call: CallMaker) -> None:
    first, second = make_call(), make_call()
    add(index, first)
    with pytest.raises(EntryError, match=r"UNIQUE constraint failed: recordings\.file_name"):
        add(index, second, first)
    assert [entry.file_name for entry in index.search(Filters()).entries] == [first.file_name]
    assert len(index.search_cdrs(Filters()).entries) == 1
    add(index, second)
    assert len(index.search(Filters()).entries) == 2


@pytest.mark.parametrize(
    "change",
    [{"calling": object()}, {"sip_status": 2**70}, {"calling": "\udcff"}, {"result": None}, {"details": {1j: 1}}],
)
def test_a_cdr_that_cannot_be_stored_is_refused_and_the_index_stays_usable(
    index: Index, make_call: CallMaker, change: dict[str, Any]
) -> None:
    call = make_call()
    with pytest.raises(EntryError, match="cannot add"):
        index.add_call(call.cdr | change, call.manifest())
    assert index.search(Filters()).entries == ()
    add(index, call)


def test_a_cdr_without_one_of_its_keys_is_refused(index: Index, make_call: CallMaker) -> None:
    cdr = make_call().cdr
    del cdr["reason"]
    with pytest.raises(EntryError, match="reason"):
        index.add_call(cdr, None)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(), [4, 3, 2, 1, 0]),
        (Filters(from_ms=T0 + 1, to_ms=T0 + 3), [2, 1]),
        (Filters(group_id="g1"), [3, 1]),
        (Filters(account_id="a0"), [4, 2, 0]),
        (Filters(group_id="g0", account_id="a0"), [4, 2, 0]),
        (Filters(group_id="g0", account_id="a1"), []),
        (Filters(dialog_id=f"{2:032X}"), [2]),
        (Filters(text="0000003"), [3]),
        (Filters(text="4-B@192"), [4]),
        (Filters(text="%"), []),
        (Filters(text="_"), []),
        (Filters(text="8001", from_ms=T0 + 4), [4]),
    ],
)
def test_a_search_holds_every_filter_newest_first(
    index: Index, make_call: CallMaker, filters: Filters, expected: list[int]
) -> None:
    calls = [make_call(group=f"g{number % 2}", account=f"a{number % 2}") for number in range(5)]
    add(index, *calls)
    wanted = [calls[number] for number in expected]
    assert [entry.file_name for entry in index.search(filters).entries] == [call.file_name for call in wanted]
    assert [entry["id"] for entry in index.search_cdrs(filters).entries] == [call.name.dialog_id for call in wanted]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 10, 11])
def test_pages_joined_are_the_whole_search_even_with_equal_times(
    index: Index, make_call: CallMaker, limit: int
) -> None:
    add(index, *(make_call(time=T0 + number // 4) for number in range(10)))
    whole = [entry.file_name for entry in index.search(Filters()).entries]
    assert len(whole) == 10
    paged: list[str] = []
    cursor: str | None = None
    while True:
        page = index.search(Filters(), limit, cursor)
        paged += [entry.file_name for entry in page.entries]
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page.entries) == limit
    assert paged == whole


def test_recordings_that_come_between_two_pages_shift_nothing(index: Index, make_call: CallMaker) -> None:
    calls = [make_call() for _ in range(4)]
    add(index, *calls)
    first = index.search(Filters(), 2)
    add(index, make_call(), make_call())
    second = index.search(Filters(), 2, first.next_cursor)
    assert [entry.file_name for entry in second.entries] == [calls[1].file_name, calls[0].file_name]


@pytest.mark.parametrize("cursor", ["", "x", "!!", "MS4y4", "LTEuMg", "é", "Mg", "OTk5OTk5OTk5OTk5OTk5OTk5OTkuMQ"])
def test_a_cursor_of_no_search_is_refused(index: Index, cursor: str) -> None:
    with pytest.raises(InvalidRequestError, match="cursor"):
        index.search(Filters(), 10, cursor)


@pytest.mark.parametrize("limit", [0, -1, 501])
def test_a_limit_out_of_bounds_is_refused(index: Index, limit: int) -> None:
    with pytest.raises(InvalidRequestError, match="limit: must be 1 to 500"):
        index.search_cdrs(Filters(), limit)


def test_the_ledger_has_one_entry_a_kept_recording_and_one_an_access(index: Index, make_call: CallMaker) -> None:
    first, second = make_call(), make_call()
    add(index, first, second)
    index.add_access("playback", "ann", T0 + 5, index.get(first.name.dialog_id))
    size = 44 + 2 * 1600
    assert index.usage_totals(T0, T0 + 6) == (
        UsageTotal("playback", "group", "account", 1, 0.2, size),
        UsageTotal("recording", "group", "account", 2, 0.4, 2 * size),
    )
    assert index.usage_totals(T0, T0 + 1) == (UsageTotal("recording", "group", "account", 1, 0.2, size),)
    assert rows(index.path, "SELECT who, at_ms FROM usage WHERE kind = 'playback'") == [("ann", T0 + 5)]


def test_what_is_known_is_told_apart(index: Index, make_call: CallMaker) -> None:
    calls = [make_call() for _ in range(3)]
    add(index, calls[0], calls[2])
    assert index.known_files([call.file_name for call in calls]) == {calls[0].file_name, calls[2].file_name}
    assert index.has_cdr(calls[0].name.dialog_id, calls[0].name.dialog_timestamp_ms)
    assert not index.has_cdr(calls[1].name.dialog_id, calls[1].name.dialog_timestamp_ms)


def test_the_index_survives_being_closed(index: Index, make_call: CallMaker) -> None:
    call = make_call()
    add(index, call)
    index.close()
    assert index.get(call.name.dialog_id).file_name == call.file_name
    with closing(Index(index.path)) as again:
        assert again.get(call.name.dialog_id).file_name == call.file_name


def test_check_writable_really_writes(index: Index) -> None:
    index.check_writable()
    index.check_writable()
    assert rows(index.path, "SELECT count(*), max(at_ms) > 1700000000000 FROM probe") == [(1, 1)]


def test_every_commit_is_synced_to_the_disk(index: Index) -> None:
    database_ = index._opened()
    with database_.writer.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"


def test_the_tables_have_the_columns_that_the_queries_name(index: Index) -> None:
    for table in (RECORDINGS, CDRS, USAGE):
        made = [row[1] for row in rows(index.path, f"PRAGMA table_info({table.name})")]
        assert made == [column.name for column in table.c]


@pytest.mark.parametrize(
    ("filters", "cursor", "used"),
    [
        (Filters(), None, "recordings_time"),
        (Filters(from_ms=1), "MTcwMDAwMDAwMDAwMC41", "recordings_time"),
        (Filters(dialog_id="X"), None, "recordings_dialog"),
        (Filters(group_id="g"), None, "recordings_group"),
        (Filters(account_id="a"), "MTcwMDAwMDAwMDAwMC41", "recordings_account"),
        (Filters(group_id="g", account_id="a"), None, "recordings_account"),
        (Filters(group_id="g", account_id="a", from_ms=1, to_ms=9), None, "recordings_account"),
    ],
)
def test_a_search_uses_an_index(index: Index, filters: Filters, cursor: str | None, used: str) -> None:
    for query, table in ((recordings_query, "recordings"), (cdrs_query, "cdrs")):
        text = query(filters, 50, cursor).compile(compile_kwargs={"literal_binds": True})
        plan = str(rows(index.path, f"EXPLAIN QUERY PLAN {text}"))
        assert used.replace("recordings", table).replace("cdrs_dialog", "cdrs_id") in plan
        if used != "recordings_dialog":
            assert "TEMP B-TREE" not in plan


def test_readers_see_whole_batches_while_a_writer_writes(index: Index, make_call: CallMaker) -> None:
    batches = [[make_call() for _ in range(5)] for _ in range(40)]
    done = threading.Event()
    seen: list[int] = []
    failures: list[StorageError] = []

    def read() -> None:
        try:
            while not done.is_set():
                seen.append(len(index.search(Filters(), 500).entries))
        except StorageError as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for batch in batches:
        add(index, *batch)
    done.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert all(count % 5 == 0 for count in seen)
    assert len(index.search(Filters(), 500).entries) == 200


def test_writers_of_several_threads_take_turns(index: Index, make_call: CallMaker) -> None:
    calls = [make_call() for _ in range(40)]
    failures: list[StorageError] = []

    def write(some: list[SampleCall]) -> None:
        try:
            for call in some:
                add(index, call)
                index.check_writable()
        except StorageError as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(calls[start::4],)) for start in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failures
    assert len(index.search(Filters()).entries) == 40


# What goes wrong with a file


def test_a_newer_schema_is_refused_with_what_to_do(index: Index) -> None:
    index.close()
    with raw(index.path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StorageError, match=f"schema version {SCHEMA_VERSION + 1}.*start the newer recorder"):
        Index(index.path)


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with raw(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StorageError, match=r"another program's database; name another file in library\.index"):
        Index(path)
    assert rows(path, "SELECT name FROM sqlite_master") == [("theirs",)]


def test_a_file_that_is_no_database_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"not a database " * 1000)
    with pytest.raises(StorageError, match="damaged; move it away and run 'recorder recover'"):
        Index(path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone/index\.sqlite.*check that its folder exists"):
        Index(tmp_path / "gone" / "index.sqlite")


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="check that its folder exists"):
        Index(tmp_path)


def test_an_index_that_another_process_holds_fails_and_then_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_call: CallMaker
) -> None:
    path = tmp_path / "index.sqlite"
    Index(path).close()
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    call = make_call()
    with closing(Index(path)) as index:
        with held_by_another(path, monkeypatch):
            for attempt in (index.check_writable, lambda: add(index, call)):
                with pytest.raises(StorageError, match="database is locked: another process holds it"):
                    attempt()
            assert index.search(Filters()).entries == ()
        add(index, call)
        assert index.get(call.name.dialog_id).file_name == call.file_name


def test_a_full_disk_fails_and_says_so(index: Index, make_call: CallMaker) -> None:
    add(index, make_call())
    with index._opened().writer.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        connection.rollback()
    with pytest.raises(StorageError, match="disk is full: the disk is full; free space on it"):
        add(index, *(make_call() for _ in range(500)))
    assert len(index.search(Filters(), 500).entries) == 1
    add(index, make_call())
    assert len(index.search(Filters(), 500).entries) == 2


def test_a_removed_index_is_noticed_and_made_anew(index: Index, make_call: CallMaker) -> None:
    first, second = make_call(), make_call()
    add(index, first)
    index.path.unlink()
    with pytest.raises(StorageError, match=r"removed or replaced while in use.*recorder recover"):
        add(index, second)
    add(index, second)
    assert rows(index.path, "SELECT file_name FROM recordings") == [(second.file_name,)]


def test_readers_notice_a_removed_index_too(index: Index, make_call: CallMaker) -> None:
    add(index, make_call())
    index.path.unlink()
    with pytest.raises(StorageError, match="removed or replaced"):
        index.search(Filters())


def test_a_replaced_index_is_used_after_one_failure(index: Index, tmp_path: Path, make_call: CallMaker) -> None:
    call = make_call()
    with closing(Index(tmp_path / "restored.sqlite")) as restored:
        add(restored, call)
    (tmp_path / "restored.sqlite").replace(index.path)
    with pytest.raises(StorageError, match="removed or replaced"):
        index.check_writable()
    assert index.get(call.name.dialog_id).file_name == call.file_name


def test_a_damaged_index_fails_with_what_to_do(index: Index, make_call: CallMaker) -> None:
    add(index, *(make_call() for _ in range(300)))
    index.close()
    content = bytearray(index.path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    index.path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged; move it away"):
        index.search(Filters())
    with pytest.raises(StorageError, match="damaged; move it away"):
        index.add_call(make_call().cdr, None)


def test_a_committed_call_survives_kill_9(tmp_path: Path, make_call: CallMaker) -> None:
    path = tmp_path / "index.sqlite"
    call = make_call()
    (tmp_path / "manifest.json").write_text(call.manifest().model_dump_json())
    program = f"""
        import os, signal
        from pathlib import Path
        from recorder.library.index import Index
        from recorder.library.manifest import Manifest
        index = Index(Path({str(path)!r}))
        manifest = Manifest.model_validate_json(Path({str(tmp_path / "manifest.json")!r}).read_bytes())
        index.add_call({call.cdr!r}, manifest)
        with index._transaction("begin what is not committed") as connection:
            connection.exec_driver_sql("DELETE FROM recordings")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    finished = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False, timeout=60)
    assert finished.returncode == -9
    with closing(Index(path)) as index:
        assert index.get(call.name.dialog_id).file_name == call.file_name
        assert index.has_cdr(call.name.dialog_id, call.name.dialog_timestamp_ms)
