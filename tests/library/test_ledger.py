from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from recorder.errors import StorageError
from recorder.library.index import Index
from recorder.library.keeper import EndedCall, Keeper
from recorder.library.ledger import LEDGER_NAME, Head, Ledger, enroll, read_lines
from recorder.library.manifest import Manifest, encoded
from recorder.library.recovery import reindex
from recorder.library.verification import IndexFacts, verify
from recorder.metrics import Metrics
from recorder.signing import PublicKeys, Signer, make_pair

from .conftest import CallMaker, SampleCall


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    make_pair(tmp_path / "signing.pem")
    return Signer.load(tmp_path / "signing.pem")


@pytest.fixture
def keys(signer: Signer) -> PublicKeys:
    return PublicKeys([signer.public_key])


@pytest.fixture
def ledger(folder: Path, signer: Signer) -> Iterator[Ledger]:
    with closing(Ledger(folder, signer)) as ledger:
        yield ledger


def kept(call: SampleCall, folder: Path, signer: Signer | None) -> tuple[Manifest, bytes]:
    manifest = call.manifest_of(call.write_audio(folder)).signed(signer)
    manifest.write(folder)
    return manifest, encoded(manifest)


def problems(folder: Path, keys: PublicKeys, head: Head | None) -> list[str]:
    return [str(problem) for problem in verify(folder, IndexFacts(head, {}), keys).problems if problem.kind != "index"]


def test_each_recording_gets_its_line(
    folder: Path, ledger: Ledger, make_call: CallMaker, signer: Signer, keys: PublicKeys
) -> None:
    calls = [make_call(samples=80) for _ in range(5)]
    ledger.append(kept(call, folder, signer) for call in calls[:2])
    head = ledger.append(kept(call, folder, signer) for call in calls[2:])
    assert head is not None
    assert head.line == 6
    assert ledger.files() == {call.file_name for call in calls}
    assert problems(folder, keys, head) == []


def test_a_line_that_a_crash_cut_short_is_healed(
    folder: Path, ledger: Ledger, make_call: CallMaker, signer: Signer, keys: PublicKeys
) -> None:
    first, second = make_call(samples=80), make_call(samples=80)
    known = ledger.append([kept(first, folder, signer)])
    size = ledger.path.stat().st_size
    ledger.append([kept(second, folder, signer)])
    whole = ledger.path.read_bytes()
    ledger.close()
    for cut in (size + 1, size + 100, len(whole) - 1):
        ledger.path.write_bytes(whole[:cut])
        with closing(Ledger(folder, signer, known)) as healed:
            assert healed.broken is None
            assert enroll(folder, healed) == []
            assert healed.files() == {first.file_name, second.file_name}
            assert problems(folder, keys, healed.head) == []


@pytest.mark.parametrize("left", [0, 1, 3])
def test_lines_that_are_cut_off_stay_missed_whatever_follows(
    folder: Path, ledger: Ledger, make_call: CallMaker, signer: Signer, keys: PublicKeys, left: int
) -> None:
    calls = [make_call(samples=80) for _ in range(3)]
    head = ledger.append([kept(call, folder, signer) for call in calls])
    ledger.close()
    lines = [content + b"\n" for _, content in read_lines(ledger.path)]
    ledger.path.write_bytes(b"".join(lines[:left]))
    [cut] = problems(folder, keys, head)
    assert "the index knows line 4: lines were cut off" in cut

    with closing(Ledger(folder, signer, head)) as again:
        assert again.broken is not None
        assert enroll(folder, again) == []
        again.append([kept(make_call(samples=80), folder, signer)])
        [broken] = problems(folder, keys, again.head)
    assert f"line {left + 1}: the recorder found at" in broken
    assert f"it had gone on to line {head}" in broken


def test_a_new_ledger_beside_signed_recordings_is_no_beginning(
    folder: Path, ledger: Ledger, make_call: CallMaker, signer: Signer, keys: PublicKeys
) -> None:
    ledger.append([kept(make_call(samples=80), folder, signer)])
    ledger.close()
    ledger.path.unlink()
    with closing(Ledger(folder, signer)) as again:
        [problem] = enroll(folder, again)
        assert "an earlier one must have had" in problem
        [broken] = problems(folder, keys, again.head)
        assert "line 2: the recorder found" in broken


def test_recordings_from_before_there_was_a_ledger_are_entered(
    folder: Path, make_call: CallMaker, signer: Signer, keys: PublicKeys
) -> None:
    calls = [make_call(samples=80) for _ in range(3)]
    for call in calls:
        kept(call, folder, None)
    with closing(Ledger(folder, signer)) as ledger:
        assert enroll(folder, ledger) == []
        assert ledger.files() == {call.file_name for call in calls}
        assert enroll(folder, ledger) == []
        assert problems(folder, keys, ledger.head) == []


def test_what_is_not_signed_is_not_taken_in(
    folder: Path, ledger: Ledger, make_call: CallMaker, signer: Signer, tmp_path: Path
) -> None:
    make_pair(tmp_path / "other.pem")
    ledger.append([kept(make_call(samples=80), folder, signer)])
    plain, forged, ours = make_call(samples=80), make_call(samples=80), make_call(samples=80)
    kept(plain, folder, None)
    kept(forged, folder, Signer.load(tmp_path / "other.pem"))
    kept(ours, folder, signer)
    left_out = enroll(folder, ledger)
    assert [call.name.stem in line for call, line in zip((plain, forged), left_out, strict=True)] == [True, True]
    assert ours.file_name in ledger.files()


def test_a_second_process_is_kept_out(folder: Path, ledger: Ledger) -> None:
    assert ledger.head is not None
    with pytest.raises(StorageError, match="a running recorder is using this folder; stop it first"):
        Ledger(folder)


def test_a_ledger_that_vanishes_while_in_use_is_noticed(
    folder: Path, ledger: Ledger, make_call: CallMaker, signer: Signer, keys: PublicKeys
) -> None:
    first = ledger.append([kept(make_call(samples=80), folder, signer)])
    ledger.path.rename(folder / "elsewhere")
    head = ledger.append([kept(make_call(samples=80), folder, signer)])
    assert ledger.broken is not None
    assert any(f"it had gone on to line {first}" in problem for problem in problems(folder, keys, head))


def test_a_failed_write_leaves_nothing_behind(
    folder: Path,
    ledger: Ledger,
    make_call: CallMaker,
    signer: Signer,
    keys: PublicKeys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger.append([kept(make_call(samples=80), folder, signer)])
    entry = kept(make_call(samples=80), folder, signer)

    def full(descriptor: int, content: bytes, offset: int) -> int:
        if offset > size:
            raise OSError(28, "No space left on device")
        return pwrite(descriptor, content[:100], offset)

    pwrite, size = os.pwrite, ledger.path.stat().st_size
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StorageError, match="cannot be written: No space left on device"):
            ledger.append([entry])
    assert ledger.path.stat().st_size == size
    assert problems(folder, keys, ledger.append([entry])) == []


def test_a_ledger_that_is_full_holds_up_the_index_until_there_is_room(
    folder: Path, index: Index, make_call: CallMaker, signer: Signer, keys: PublicKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.library.keeper.INDEX_BACK_OFF_S", 0.01)
    refused = 0

    def full(*_: object) -> int:
        nonlocal refused
        refused += 1
        raise OSError(28, "No space left on device")

    with closing(Ledger(folder, signer)) as ledger:
        keeper = Keeper(index, folder, Metrics(), ledger=ledger)
        keeper.start()
        with monkeypatch.context() as patch:
            patch.setattr("recorder.library.ledger.os.ftruncate", full)
            call = make_call(samples=80)
            keeper.submit(ended(call, folder))
            while refused < 3:
                time.sleep(0.001)
            assert index.fingerprints() == {}
        assert keeper.wait_idle(30)
        keeper.stop(5)
        report = verify(folder, IndexFacts(index.ledger_head(), index.fingerprints()), keys)
        assert (report.problems, report.recordings) == ([], 1)


def test_calls_that_end_together_are_chained(
    folder: Path, index: Index, make_call: CallMaker, signer: Signer, keys: PublicKeys
) -> None:
    calls = [make_call(samples=80) for _ in range(100)]
    with closing(Ledger(folder, signer)) as ledger:
        keeper = Keeper(index, folder, Metrics(), ledger=ledger)
        keeper.start()
        for call in calls:
            keeper.submit(ended(call, folder))
        assert keeper.wait_idle(30)
        keeper.stop(5)
        assert index.ledger_head() == ledger.head
    report = verify(folder, IndexFacts(index.ledger_head(), index.fingerprints()), keys)
    assert (report.problems, report.recordings, report.waiting) == ([], 100, 0)
    assert report.signed_by == signer.key_id
    manifest = json.loads((folder / f"{calls[0].name.stem}.json").read_bytes())
    assert manifest["signature"]["key_id"] == signer.key_id


def ended(call: SampleCall, folder: Path) -> EndedCall:
    return EndedCall(call.cdr, lambda: call.write_audio(folder), call.manifest_of, time.monotonic())


_DIES = """
    import os, signal, sys
    from pathlib import Path
    from recorder.library.ledger import Ledger
    from recorder.library.manifest import Manifest, encoded
    from recorder.signing import Signer

    folder, step = Path(sys.argv[1]), int(sys.argv[2])
    ledger = Ledger(folder, Signer.load(folder.parent / "signing.pem"))
    fsync, calls = os.fsync, 0

    def die_at_one(descriptor):
        global calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    def half(descriptor, content, offset):
        return write(descriptor, content[: len(content) // 2 + 1], offset)

    os.fsync = die_at_one
    write, os.pwrite = os.pwrite, half
    for path in sorted(folder.glob("*~*.json")):
        if step < 0:
            os.pwrite = lambda *arguments: (half(*arguments), os.kill(os.getpid(), signal.SIGKILL))
        manifest = Manifest.read(path)
        ledger.append([(manifest, path.read_bytes())])
"""


@pytest.mark.parametrize("step", [-1, 1, 4])
def test_kill_9_does_not_break_the_chain(
    folder: Path, index: Index, make_call: CallMaker, signer: Signer, keys: PublicKeys, step: int
) -> None:
    for _ in range(4):
        kept(make_call(samples=80), folder, signer)
    program = [sys.executable, "-c", textwrap.dedent(_DIES), str(folder), str(step)]
    assert subprocess.run(program, check=False, timeout=60).returncode == -9
    with closing(Ledger(folder, signer, index.ledger_head())) as ledger:
        assert ledger.broken is None
        assert reindex(folder, index, signer=signer).problems == []
        assert enroll(folder, ledger) == []
        report = verify(folder, IndexFacts(ledger.head, index.fingerprints()), keys)
        assert (report.problems, report.recordings, report.waiting) == ([], 4, 0)
    assert len((folder / LEDGER_NAME).read_bytes().splitlines()) == 5
