"""The audit keeps every entry: once, unchanged, and whatever becomes of the index meanwhile."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from recorder.library import audit
from recorder.library.audit import AuditEntry, AuditTrail, restore
from recorder.library.index import Index
from recorder.library.search import Filters
from recorder.metrics import Metrics

_DYING = """
    import os, signal, sys, time
    from pathlib import Path
    from recorder.library.audit import AuditEntry, AuditTrail
    from recorder.library.index import Index
    from recorder.metrics import Metrics

    folder = Path(sys.argv[1])
    trail = AuditTrail(Index(folder / "index.sqlite"), folder, Metrics())
    trail.start()
    for step in "abc":
        trail.enter(AuditEntry("application", "mute", step=step))
    trail.when_kept(lambda: os.kill(os.getpid(), signal.SIGKILL))
    time.sleep(60)
"""


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with closing(Index(tmp_path / "index.sqlite")) as opened:
        yield opened


@pytest.fixture
def trail(index: Index, tmp_path: Path) -> Iterator[AuditTrail]:
    kept = AuditTrail(index, tmp_path, Metrics())
    kept.start()
    yield kept
    kept.stop(10)


def entry(step: str) -> AuditEntry:
    return AuditEntry("application", "mute", dialog_id="D1", group_id="g", account_id="a", step=step, muted=True)


def steps(index: Index) -> list[str]:
    return [it["step"] for it in index.search_audit(Filters(), 500).entries][::-1]


def eventually(question: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not question():
        assert time.monotonic() < end
        time.sleep(0.01)


def spills(folder: Path) -> list[Path]:
    return sorted(folder.glob("unindexed-*.audit"))


def test_entries_are_found_in_their_order_with_all_that_was_said(trail: AuditTrail, index: Index) -> None:
    made = [entry(str(number)) for number in range(50)]
    for one in made:
        trail.enter(one)
    eventually(lambda: len(steps(index)) == 50)
    assert steps(index) == [str(number) for number in range(50)]
    [last] = index.search_audit(Filters(from_ms=made[-1].at_ms, dialog_id="D1", group_id="g"), 1).entries
    assert last == {
        "actor": "application",
        "action": "mute",
        "result": "accepted",
        "reason": "",
        "who": "",
        "source": "",
        "dialog_id": "D1",
        "group_id": "g",
        "account_id": "a",
        "sip_call_id": None,
        "step": "49",
        "shape": "",
        "muted": True,
        "note": "",
        "at_ms": made[-1].at_ms,
    }


def test_pages_lead_from_the_newest_to_the_oldest(index: Index) -> None:
    index.add_audit([entry(str(number)) for number in range(7)])
    found: list[str] = []
    cursor = None
    while True:
        page = index.search_audit(Filters(), 3, cursor)
        found += [it["step"] for it in page.entries]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == list("6543210")


@pytest.mark.parametrize("change", ["UPDATE audit SET who = 'nobody'", "DELETE FROM audit"])
def test_nothing_is_changed_or_removed(index: Index, change: str) -> None:
    index.add_audit([entry("card")])
    with (
        closing(sqlite3.connect(index.path)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="only added to"),
    ):
        connection.execute(change)
    assert steps(index) == ["card"]


def test_while_the_index_is_held_entries_wait_in_a_file_and_follow(
    trail: AuditTrail, index: Index, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(index.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for step in ("a", "b"):
            trail.enter(entry(step))
        eventually(lambda: bool(spills(tmp_path)))
        trail.enter(entry("c"))
        assert steps(index) == []
        other.execute("ROLLBACK")
    eventually(lambda: len(steps(index)) == 3)
    assert steps(index) == ["a", "b", "c"]
    eventually(lambda: not spills(tmp_path))


def test_what_a_process_leaves_in_a_file_the_next_one_brings_to_the_index_once(tmp_path: Path) -> None:
    one, two = entry("a"), entry("b")
    path = tmp_path / "unindexed-1.audit"
    audit._append(path, [one])
    audit._append(path, [two])
    with closing(Index(tmp_path / "index.sqlite")) as index:
        index.add_audit([one])  # it had come that far when the process died
        assert restore(tmp_path, index) == 2
        assert steps(index) == ["a", "b"]
        assert restore(tmp_path, index) == 0
    assert spills(tmp_path) == []


def test_kill_9_takes_nothing_that_was_said_to_be_kept(tmp_path: Path) -> None:
    program = [sys.executable, "-c", textwrap.dedent(_DYING), str(tmp_path)]
    assert subprocess.run(program, check=False, timeout=60).returncode == -signal.SIGKILL
    with closing(Index(tmp_path / "index.sqlite")) as index:
        assert steps(index) == []  # it had no time to
        assert restore(tmp_path, index) == 3
        assert steps(index) == ["a", "b", "c"]


def test_an_entry_that_no_index_takes_does_not_keep_a_start_from_the_others(tmp_path: Path) -> None:
    audit._append(tmp_path / "unindexed-1.audit", [entry("a"), entry("\udcff"), entry("b")])
    with closing(Index(tmp_path / "index.sqlite")) as index:
        restore(tmp_path, index)
        assert steps(index) == ["a", "b"]
    assert spills(tmp_path) == []


def test_a_line_that_was_not_written_whole_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "unindexed-1.audit"
    audit._append(path, [entry("a"), entry("b")])
    torn = path.read_text().rstrip("\n")[:-20]
    path.write_text(torn)
    audit._append(path, [entry("c")])
    with closing(Index(tmp_path / "index.sqlite")) as index:
        restore(tmp_path, index)
        assert steps(index) == ["a", "c"]
    assert [it.name for it in tmp_path.glob("*.damaged")] == ["unindexed-1.damaged"]


def test_stopping_keeps_what_was_entered_even_when_the_index_is_gone(tmp_path: Path) -> None:
    with closing(Index(tmp_path / "index.sqlite")) as index:
        trail = AuditTrail(index, tmp_path, Metrics())
        trail.start()
        (tmp_path / "index.sqlite").rename(tmp_path / "gone.sqlite")
        trail.enter(entry("a"))
        trail.stop(10)
    [left] = spills(tmp_path)
    assert '"step":"a"' in left.read_text()


def test_an_entry_that_no_index_takes_is_dropped_alone(trail: AuditTrail, index: Index) -> None:
    for step in ("a", "\udcff", "b"):
        trail.enter(entry(step))
    eventually(lambda: len(steps(index)) == 2)
    assert steps(index) == ["a", "b"]


def test_when_neither_index_nor_disk_takes_it_it_waits_in_memory(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "RETRY_S", 0.05)
    folder = tmp_path / "recordings"
    trail = AuditTrail(index, folder, Metrics())  # a folder that is not there
    trail._retry_s = 0.05
    trail.start()
    with closing(sqlite3.connect(index.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        trail.enter(entry("a"))
        eventually(lambda: bool(trail._waiting))
        other.execute("ROLLBACK")
    eventually(lambda: steps(index) == ["a"])
    trail.stop(10)
