from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from recorder import sealed_store
from recorder.byte_store import ByteStore, PlainStore, reading
from recorder.errors import KeyMaterialError, StorageError
from recorder.keyring import Keyring
from recorder.sealed_store import (
    CHUNK_BYTES,
    HEAD_BYTES,
    STORED_BYTES,
    SealingStorage,
    UnsealingStorage,
    fingerprint,
    is_sealed,
    key_ids,
    rewrap,
)

OLD = {"old": b"o" * 32}
NEW = {"new": b"n" * 32}
STORAGE = SealingStorage(Keyring(OLD))


def created(path: Path) -> ByteStore:
    return STORAGE.create(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))


def opened(path: Path, storage: UnsealingStorage = STORAGE, flags: int = os.O_RDWR) -> ByteStore:
    return storage.open(os.open(path, flags), finished=flags == os.O_RDONLY)


def whole(store: ByteStore) -> bytes:
    return store.read_at(0, store.size + 1)


def pattern(count: int, salt: int = 0) -> bytes:
    return bytes((salt + at * 7 + at // 251) % 255 + 1 for at in range(count))


def finished(path: Path, content: bytes) -> Path:
    with closing(created(path)) as store:
        store.write_at(0, content)
        store.sync()
    return path


SIZES = (0, 1, 100, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 17)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_written_is_read_and_nothing_of_it_is_on_the_disk(tmp_path: Path, size: int) -> None:
    path = finished(tmp_path / "a", pattern(size))
    with closing(opened(path, flags=os.O_RDONLY)) as store:
        assert (store.size, whole(store)) == (size, pattern(size))
        assert store.read_at(size // 2, 10) == pattern(size)[size // 2 : size // 2 + 10]
    stored = path.read_bytes()
    for at in range(0, size - 16, 500):
        assert pattern(size)[at : at + 16] not in stored
    with reading(path, STORAGE) as file:
        assert file.read() == pattern(size)
    assert is_sealed(path)


class AgainstAModel(RuleBasedStateMachine):
    """Anything that may be done to a store, against a row of bytes."""

    folder: Path

    @initialize()
    def start(self) -> None:
        self.path = self.folder / str(len(list(self.folder.iterdir())))
        self.store = created(self.path)
        self.model = bytearray()

    @rule(
        at=st.floats(0, 1.2), count=st.sampled_from([0, 1, 50, 4000, CHUNK_BYTES, 6400, 9000]), salt=st.integers(0, 9)
    )
    def write(self, at: float, count: int, salt: int) -> None:
        offset = round(at * len(self.model))
        self.store.write_at(offset, pattern(count, salt))
        if offset > len(self.model):
            self.model.extend(bytes(offset - len(self.model)))
        self.model[offset : offset + count] = pattern(count, salt)

    @rule(count=st.sampled_from([1, 80, 640, 6400, CHUNK_BYTES]), salt=st.integers(0, 9))
    def append(self, count: int, salt: int) -> None:
        self.store.write_at(len(self.model), pattern(count, salt))
        self.model += pattern(count, salt)

    @rule(at=st.floats(0, 1.3), whole_chunks=st.booleans())
    def truncate(self, at: float, whole_chunks: bool) -> None:
        size = round(at * len(self.model))
        if whole_chunks:
            size -= size % CHUNK_BYTES
        self.store.truncate(size)
        self.model = self.model[:size].ljust(size, b"\0")

    @rule()
    def sync(self) -> None:
        self.store.sync()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = opened(self.path)

    @precondition(lambda self: self.model)
    @rule(at=st.floats(0, 1), count=st.integers(1, 10_000))
    def read(self, at: float, count: int) -> None:
        offset = round(at * len(self.model))
        assert self.store.read_at(offset, count) == self.model[offset : offset + count]

    @invariant()
    def is_the_same(self) -> None:
        if hasattr(self, "store"):
            assert self.store.size == len(self.model)
            assert whole(self.store) == self.model

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        self.store.sync()
        self.store.close()
        with closing(opened(self.path, flags=os.O_RDONLY)) as store:
            assert whole(store) == self.model
        self.path.unlink()


def test_it_does_what_a_plain_file_does(tmp_path: Path) -> None:
    machine = AgainstAModel.TestCase
    machine.settings = settings(
        max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    AgainstAModel.folder = tmp_path
    machine("runTest").debug()


@pytest.mark.parametrize("size", [2 * CHUNK_BYTES + 900, 3 * CHUNK_BYTES])
def test_a_file_that_was_cut_anywhere_is_read_up_to_there(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a"
    with closing(created(path)) as store:
        store.write_at(0, pattern(size))
    stored = path.read_bytes()
    start = HEAD_BYTES + (-(-size // CHUNK_BYTES) - 2) * STORED_BYTES
    for cut in range(start, len(stored) + 1):
        descriptor = os.memfd_create("cut")
        os.write(descriptor, stored[:cut])
        with closing(STORAGE.open(descriptor, finished=False)) as store:
            kept, left = divmod(cut - HEAD_BYTES, STORED_BYTES)
            assert store.size == (size if cut == len(stored) else kept * CHUNK_BYTES), (cut, left)
            if cut % 500 == 0:
                assert whole(store) == pattern(size)[: store.size]
                store.write_at(store.size, b"more")
                assert whole(store) == pattern(size)[: store.size - 4] + b"more"


@pytest.mark.parametrize("size", [2 * CHUNK_BYTES + 900, 3 * CHUNK_BYTES])
def test_a_finished_file_that_was_cut_anywhere_is_refused(tmp_path: Path, size: int) -> None:
    path = finished(tmp_path / "a", pattern(size))
    stored = path.read_bytes()
    in_memory = os.memfd_create("cut")
    os.write(in_memory, stored)
    for cut in range(len(stored) - 1, HEAD_BYTES - 1, -1):
        os.ftruncate(in_memory, cut)
        with pytest.raises(OSError, match=r"was (changed or )?cut off"):
            opened(Path(f"/proc/self/fd/{in_memory}"), flags=os.O_RDONLY)
    os.close(in_memory)


def test_an_unfinished_file_can_be_looked_at_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with closing(created(path)) as store:
        store.write_at(0, pattern(3 * CHUNK_BYTES))
    os.truncate(path, path.stat().st_size - 1)
    before = path.read_bytes()
    with closing(STORAGE.open(os.open(path, os.O_RDONLY), finished=False)) as store:
        assert whole(store) == pattern(2 * CHUNK_BYTES)
    assert path.read_bytes() == before


def chunk(number: int) -> slice:
    return slice(HEAD_BYTES + number * STORED_BYTES, HEAD_BYTES + (number + 1) * STORED_BYTES)


@pytest.mark.parametrize("damage", ["byte", "swapped", "moved", "older"])
def test_a_chunk_that_is_not_the_one_written_is_refused(tmp_path: Path, damage: str) -> None:
    path = finished(tmp_path / "a", pattern(4 * CHUNK_BYTES))
    other = finished(tmp_path / "b", pattern(4 * CHUNK_BYTES, 1)).read_bytes()
    content = bytearray(path.read_bytes())
    if damage == "byte":
        content[HEAD_BYTES + STORED_BYTES + 2000] ^= 1
    elif damage == "swapped":
        content[chunk(1)], content[chunk(2)] = content[chunk(2)], content[chunk(1)]
    elif damage == "moved":
        content[chunk(1)] = other[chunk(1)]
    else:  # what was the last chunk once
        with closing(created(tmp_path / "c")) as store:
            store.write_at(0, pattern(2 * CHUNK_BYTES))
            store.sync()
            before = (tmp_path / "c").read_bytes()
            store.write_at(2 * CHUNK_BYTES, pattern(2 * CHUNK_BYTES))
            store.sync()
        content = bytearray((tmp_path / "c").read_bytes())
        content[chunk(1)] = before[chunk(1)]
    path.write_bytes(content)
    if damage == "older":
        path = tmp_path / "c"
        path.write_bytes(content)
    with closing(opened(path, flags=os.O_RDONLY)) as store:
        assert store.read_at(0, CHUNK_BYTES) == pattern(CHUNK_BYTES)
        with pytest.raises(OSError, match=rf"chunk 1 \(byte {HEAD_BYTES + STORED_BYTES}\) does not authenticate"):
            store.read_at(CHUNK_BYTES, 1)


def test_chunks_that_a_power_failure_took_become_silence_where_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a"
    content = pattern(4 * CHUNK_BYTES + 10)
    with closing(created(path)) as store:
        store.write_at(0, content)
    stored = bytearray(path.read_bytes())
    stored[chunk(1)] = bytes(STORED_BYTES)
    path.write_bytes(stored)
    with closing(opened(path)) as store:
        assert whole(store) == content[:CHUNK_BYTES] + bytes(CHUNK_BYTES) + content[2 * CHUNK_BYTES :]


@pytest.mark.parametrize("room", [0, 1, 3000, STORED_BYTES, STORED_BYTES + 1, 2 * STORED_BYTES + 30])
@pytest.mark.parametrize("before", [0, 100, CHUNK_BYTES, CHUNK_BYTES + 5])
@pytest.mark.parametrize("synced", [False, True])
def test_a_disk_that_is_full_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, room: int, synced: bool
) -> None:
    pwrite = os.pwrite

    def full(descriptor: int, content: bytes, offset: int) -> int:
        if offset >= limit:
            raise OSError(28, "No space left on device")
        return pwrite(descriptor, content[: limit - offset], offset)

    store = created(tmp_path / "a")
    store.write_at(0, pattern(before))
    if synced:
        store.sync()
    limit = (tmp_path / "a").stat().st_size + room
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            store.write_at(before, pattern(3 * CHUNK_BYTES, 5))
    both = pattern(before) + pattern(3 * CHUNK_BYTES, 5)
    assert store.size >= before
    assert whole(store) == both[: store.size]
    kept = store.size
    store.write_at(kept, both[kept:])
    assert whole(store) == both
    store.sync()
    store.close()
    with closing(opened(tmp_path / "a", flags=os.O_RDONLY)) as again:
        assert whole(again) == both


def test_a_key_that_is_not_there_is_named_and_never_shown(tmp_path: Path) -> None:
    path = finished(tmp_path / "a", b"content")
    for storage in (SealingStorage(Keyring(NEW)), UnsealingStorage(Keyring({}))):
        with pytest.raises(
            StorageError, match=r"a: it is sealed with the key 'old', which recording\.encryption does not"
        ):
            opened(path, storage)
    with pytest.raises(StorageError, match="the key 'old' is another one than it is sealed with"):
        opened(path, SealingStorage(Keyring({"old": b"x" * 32})))


def test_without_keys_files_are_plain_and_sealed_ones_can_be_told(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    with closing(UnsealingStorage(Keyring({})).create(descriptor)) as store:
        assert isinstance(store, PlainStore)
        store.write_at(0, b"plain")
    assert not is_sealed(tmp_path / "a")
    with closing(opened(tmp_path / "a")) as store:
        assert whole(store) == b"plain"


def test_an_empty_file_that_a_crash_left_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with closing(opened(tmp_path / "a")) as store:
        store.write_at(0, b"content")
    assert is_sealed(tmp_path / "a")


def test_rotation_leaves_audio_and_fingerprint_as_they_are(tmp_path: Path) -> None:
    path = finished(tmp_path / "a", pattern(10_000))
    with path.open("rb") as file:
        before = fingerprint(file)
    stored = path.read_bytes()
    both = Keyring(NEW | OLD)
    assert rewrap(path, both)
    assert not rewrap(path, both)
    assert key_ids(path) == ["new"]
    assert path.read_bytes()[HEAD_BYTES:] == stored[HEAD_BYTES:]
    with path.open("rb") as file:
        assert fingerprint(file) == before
    with closing(opened(path, SealingStorage(Keyring(NEW)), os.O_RDONLY)) as store:
        assert whole(store) == pattern(10_000)
    with pytest.raises(StorageError, match="sealed with the key 'new'"):
        opened(path, SealingStorage(Keyring(OLD)))
    with pytest.raises(KeyMaterialError):
        rewrap(path, Keyring({"third": b"t" * 32}))


def test_a_rotation_that_dies_at_any_step_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = Keyring(NEW | OLD)

    class DiedError(Exception):
        pass

    for step in range(1, 5):
        path = finished(tmp_path / str(step), pattern(10_000))
        calls = 0

        def die_at_one(function: Callable[..., int], step: int = step) -> Callable[..., int]:
            def called(*arguments: object) -> int:
                nonlocal calls
                calls += 1
                if calls == step:
                    raise DiedError
                return function(*arguments)

            return called

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", die_at_one(os.pwrite))
            patch.setattr(os, "fsync", die_at_one(os.fsync))
            with pytest.raises(DiedError):
                rewrap(path, both)
        with closing(opened(path, SealingStorage(both), os.O_RDONLY)) as store:
            assert whole(store) == pattern(10_000)
        rewrap(path, both)
        assert key_ids(path) == ["new"]


def test_a_slot_of_the_first_keys_name_that_does_not_open_lets_no_other_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = finished(tmp_path / "a", pattern(10_000))
    with monkeypatch.context() as patch:  # it dies before the old slot is erased
        patch.setattr(os, "fsync", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rewrap(path, Keyring({"new": b"another key" + bytes(21)} | OLD))
    assert key_ids(path) == ["old", "new"]
    rewrap(path, Keyring(NEW | OLD))
    assert key_ids(path) == ["new"]
    with closing(opened(path, SealingStorage(Keyring(NEW)), os.O_RDONLY)) as store:
        assert whole(store) == pattern(10_000)


_WRITES = """
    import os, sys
    from recorder.keyring import Keyring
    from recorder.sealed_store import SealingStorage

    store = SealingStorage(Keyring({"old": b"o" * 32})).create(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT))
    size = 0
    while True:
        store.write_at(size, bytes((size + at) % 251 for at in range(6400)))
        size += 6400
        if size % 19200 == 0:
            store.sync()
        os.write(1, size.to_bytes(8, "big"))
"""


def test_kill_9_in_the_midst_of_writing_loses_nothing_that_was_written(tmp_path: Path) -> None:
    for number in range(5):
        path = tmp_path / str(number)
        program = [sys.executable, "-c", textwrap.dedent(_WRITES), str(path)]
        with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            told = b""
            for _ in range(3 + 7 * number):
                told = process.stdout.read(8)
            process.kill()
            told = (told + process.stdout.read())[-8:]
        with closing(opened(path)) as store:
            assert store.size >= int.from_bytes(told, "big") > 0
            assert whole(store) == bytes(at % 251 for at in range(store.size))


@settings(max_examples=200, deadline=None)
@given(head=st.binary(max_size=2000))
def test_a_head_of_any_content_is_refused_or_opened_but_never_more(
    tmp_path_factory: pytest.TempPathFactory, head: bytes
) -> None:
    path = tmp_path_factory.mktemp("heads") / "a"
    path.write_bytes(sealed_store.MAGIC + head)
    with pytest.raises((StorageError, OSError)):
        opened(path, flags=os.O_RDONLY)


def test_the_fingerprint_of_a_plain_file_is_that_of_its_bytes() -> None:
    content = b"RIFF" + bytes(5000)
    assert fingerprint(io.BytesIO(content)) == (5004, hashlib.sha256(content).hexdigest())
