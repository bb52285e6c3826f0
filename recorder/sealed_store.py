"""Recordings encrypted at rest: a `ByteStore` over chunks of AES-256-GCM, and what such a file is made of.

A sealed file is a head of 4096 bytes and chunks of 4096 bytes each, the last one shorter:

| at | what |
| --- | --- |
| 0 | `RECSEAL1`, which no plain recording begins with |
| 8 | file id, 16 random bytes |
| 512, 1024 | two key slots of 512 bytes, one of them all zeros |
| 4096 | chunks: nonce (12 random bytes), ciphertext (up to 4068 bytes), tag (16) |

Every file has a data key of its own. A slot holds it, wrapped by a key-encryption key (AES-256-GCM): length and text of
that key's id, nonce, 48 bytes. File id and key id are authenticated with it. With each chunk are authenticated: file
id, the chunk's number, and whether it is the last one. So no chunk can be changed, exchanged, moved to another place or
file, and none can be cut off the end of a finished file, unnoticed (AES-GCM: NIST SP 800-38D).

A chunk is one page: a process that is killed leaves each old or new, never half of either. The last chunk is written
anew as it grows. It is marked as the last when the file is synced; a file that was not finished ends in one that is not
marked, and is read up to the last one that is whole.

A data key is wrapped anew (`rewrap`) without touching the audio: into the free slot, synced, then the old slot is
erased. Therefore size and SHA-256 of a recording (`fingerprint`) are of the file with zeros in place of its slots.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from recorder.byte_store import ByteStore, PlainStore
from recorder.errors import KeyMaterialError, StorageError
from recorder.keyring import Keyring

_log = structlog.get_logger()

MAGIC = b"RECSEAL1"
HEAD_BYTES = 4096
STORED_BYTES = 4096
_NONCE_BYTES = 12
_TAG_BYTES = 16
_OVERHEAD = _NONCE_BYTES + _TAG_BYTES
CHUNK_BYTES = STORED_BYTES - _OVERHEAD
_ID = slice(8, 24)
_SLOT_BYTES = 512
_SLOTS = (512, 1024)
_SLOTS_END = _SLOTS[-1] + _SLOT_BYTES
_WRAPPED_BYTES = 32 + _TAG_BYTES
_WRAPPED_AS = b"recorder data key 1"
_FILL_BYTES = 256 * CHUNK_BYTES
_READ_BYTES = 1 << 18


class SealedStore:
    """One sealed file. Made by `SealingStorage` and `PlainStorage`; the descriptor is its own."""

    def __init__(self, descriptor: int, file_id: bytes, data_key: bytes) -> None:
        self._descriptor = descriptor
        self._file_id = file_id
        self._cipher = AESGCM(data_key)
        self._size = 0
        self._tail = b""  # what the last chunk holds, if it is not full
        self._ended = False  # whether the last chunk is marked as such

    @property
    def descriptor(self) -> int:
        return self._descriptor

    @property
    def size(self) -> int:
        return self._size

    def read_at(self, offset: int, count: int) -> bytes:
        end = min(offset + count, self._size)
        if end <= offset:
            return b""
        first, last = offset // CHUNK_BYTES, (end - 1) // CHUNK_BYTES
        content = self._read_chunks(first, last + 1)
        return content[offset - first * CHUNK_BYTES : end - first * CHUNK_BYTES]

    def write_at(self, offset: int, content: bytes) -> None:
        while offset > self._size:
            self._write(self._size, bytes(min(offset - self._size, _FILL_BYTES)))
        if content:
            self._write(offset, content)

    def truncate(self, size: int) -> None:
        if size >= self._size:
            self.write_at(size, b"")
            return
        number, left = divmod(size, CHUNK_BYTES)
        tail = self._read_chunks(number, number + 1)[:left] if left else b""
        os.ftruncate(self._descriptor, _place(number))
        self._size, self._tail, self._ended = number * CHUNK_BYTES, b"", False
        if tail:
            self._write(self._size, tail)

    def sync(self) -> None:
        if not self._ended:
            number = max(0, self._size - 1) // CHUNK_BYTES
            content = self._tail or self._read_chunks(number, number + 1)
            self._put(number, [content], last=True)
            self._ended = True
        os.fsync(self._descriptor)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def find_end(self, *, finished: bool) -> None:
        """Find where the content ends, on opening; unless it is `finished`, with the last chunk that is whole.

        Raises OSError.
        """
        stored = max(0, os.fstat(self._descriptor).st_size - HEAD_BYTES)
        count = -(-stored // STORED_BYTES)
        while count:
            content, ended = self._either_way(count - 1)
            if content is not None:
                break
            if finished:
                raise OSError(errno.EIO, "the sealed file was changed or cut off: its last chunk does not authenticate")
            count -= 1
        if not count:
            content, ended = b"", False
        if finished and not ended:
            raise OSError(errno.EIO, "the sealed file was cut off: its last chunk is missing")
        assert content is not None
        self._size = max(0, count - 1) * CHUNK_BYTES + len(content)
        self._tail = content if len(content) < CHUNK_BYTES else b""
        self._ended = ended

    def mend(self) -> int:
        """Cut off what is behind the end; put zeros where a chunk before it cannot be read, as after a power failure.

        Returns how many chunks were lost so. Raises OSError.
        """
        number, left = divmod(self._size, CHUNK_BYTES)
        empty_end = self._ended and not self._size
        os.ftruncate(self._descriptor, _place(number) + (_OVERHEAD + left if left or empty_end else 0))
        lost = 0
        for number in range(max(0, self._size - 1) // CHUNK_BYTES):
            content, ended = self._either_way(number)
            if content is None or len(content) < CHUNK_BYTES or ended:
                lost += content is None
                self._put(number, [(content or b"").ljust(CHUNK_BYTES, b"\0")], last=False)
        return lost

    def _either_way(self, number: int) -> tuple[bytes | None, bool]:
        """A chunk's content, None if it does not authenticate, and whether it is marked as the last one."""
        sealed = os.pread(self._descriptor, STORED_BYTES, _place(number))
        for ended in (False, True):
            with suppress(InvalidTag, ValueError):
                bound = self._bound(number, last=ended)
                return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound), ended
        return None, False

    def _write(self, offset: int, content: bytes) -> None:
        """Write within the content or at its end: whole chunks, made of what is there and what is new."""
        size, tail = self._size, self._tail
        first, end = offset // CHUNK_BYTES, offset + len(content)
        if self._ended and offset == size and size and not tail:
            first -= 1  # the last chunk is full, and will not be the last any more
        start = first * CHUNK_BYTES
        before = self._read_chunks(first, -(-offset // CHUNK_BYTES))[: offset - start] if offset > start else b""
        behind = b""
        if end < size and end % CHUNK_BYTES:
            number = end // CHUNK_BYTES
            behind = self._read_chunks(number, number + 1)[end % CHUNK_BYTES :]
        plain = b"".join((before, content, behind))
        chunks = [plain[at : at + CHUNK_BYTES] for at in range(0, len(plain), CHUNK_BYTES)]
        reaches_end = end + len(behind) >= size
        try:
            self._put(first, chunks, last=False)
        except _ShortError as error:
            # At the end of the content: what the chunk held that may be torn now.
            self._take_back(first + error.chunks, size, tail or (before[-CHUNK_BYTES:] if offset == size else b""))
            raise
        if reaches_end:
            self._size = start + len(plain)
            self._tail = chunks[-1] if len(chunks[-1]) < CHUNK_BYTES else b""
            self._ended = False

    def _take_back(self, reached: int, size: int, last: bytes) -> None:
        """After a write that the disk refused in chunk `reached`: what is before it counts, and what it held."""
        if reached * CHUNK_BYTES >= size:
            self._size, self._tail, self._ended = reached * CHUNK_BYTES, b"", False
            with suppress(OSError):
                os.ftruncate(self._descriptor, _place(reached))
        elif last and reached * CHUNK_BYTES == size - len(last):
            self._ended = False
            with suppress(OSError):
                self._put(reached, [last], last=False)
                os.ftruncate(self._descriptor, _place(reached) + _OVERHEAD + len(last))

    def _put(self, first: int, chunks: list[bytes], *, last: bool) -> None:
        nonces = os.urandom(_NONCE_BYTES * len(chunks))
        sealed = bytearray()
        for place, chunk in enumerate(chunks):
            nonce = nonces[place * _NONCE_BYTES : (place + 1) * _NONCE_BYTES]
            sealed += nonce
            sealed += self._cipher.encrypt(nonce, chunk, self._bound(first + place, last=last))
        done = 0
        try:
            while done < len(sealed):
                done += os.pwrite(self._descriptor, memoryview(sealed)[done:], _place(first) + done)
        except OSError as error:
            raise _ShortError(done // STORED_BYTES, error) from error

    def _read_chunks(self, first: int, stop: int) -> bytes:
        """The content of chunks [first, stop). Raises OSError when one does not authenticate."""
        full = self._size // CHUNK_BYTES
        stored = min(stop, full)
        pieces = []
        sealed = b""
        wanted = max(0, stored - first) * STORED_BYTES
        while len(sealed) < wanted:
            more = os.pread(self._descriptor, wanted - len(sealed), _place(first) + len(sealed))
            if not more:
                break
            sealed += more
        for number in range(first, stored):
            at = (number - first) * STORED_BYTES
            is_last = self._ended and (number + 1) * CHUNK_BYTES == self._size
            try:
                pieces.append(
                    self._cipher.decrypt(
                        sealed[at : at + _NONCE_BYTES],
                        sealed[at + _NONCE_BYTES : at + STORED_BYTES],
                        self._bound(number, last=is_last),
                    )
                )
            except (InvalidTag, ValueError):
                raise OSError(
                    errno.EIO,
                    f"the sealed file was changed: chunk {number} (byte {_place(number)}) does not authenticate",
                ) from None
        if stop > full:
            pieces.append(self._tail)
        return b"".join(pieces)

    def _bound(self, number: int, *, last: bool) -> bytes:
        """What is authenticated with a chunk."""
        return self._file_id + struct.pack(">QB", number, last)


class _ShortError(OSError):
    """A write that got so many chunks far."""

    def __init__(self, chunks: int, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror)
        self.chunks = chunks


class UnsealingStorage:
    """Files are written plain; sealed ones can be read, and finished, with the keys that there are."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def create(self, descriptor: int) -> ByteStore:
        return PlainStore(descriptor)

    def open(self, descriptor: int, *, finished: bool = True) -> ByteStore:
        try:
            head = os.pread(descriptor, HEAD_BYTES, 0)
            if not head.startswith(MAGIC):
                return PlainStore(descriptor)
            file_id, data_key, _ = _unwrapped(head, self._keyring)
            store = SealedStore(descriptor, file_id, data_key)
            store.find_end(finished=finished)
            if not finished and _is_writable(descriptor) and (lost := store.mend()):
                _log.error("sealed_chunks_lost", file=_name(descriptor), chunks=lost, chunk_bytes=CHUNK_BYTES)
        except (OSError, KeyMaterialError) as error:
            name = _name(descriptor)
            with suppress(OSError):
                os.close(descriptor)
            if isinstance(error, KeyMaterialError):
                raise StorageError(f"{name}: {error}") from None
            raise
        return store


class SealingStorage(UnsealingStorage):
    """New files are sealed, under the keyring's first key."""

    def create(self, descriptor: int) -> ByteStore:
        file_id, data_key = secrets.token_bytes(16), AESGCM.generate_key(256)
        head = bytearray(HEAD_BYTES)
        head[: len(MAGIC)] = MAGIC
        head[_ID] = file_id
        slot = _slot(file_id, data_key, self._keyring)
        head[_SLOTS[0] : _SLOTS[0] + len(slot)] = slot
        try:
            PlainStore(descriptor).write_at(0, bytes(head))
        except OSError:
            with suppress(OSError):
                os.close(descriptor)
            raise
        return SealedStore(descriptor, file_id, data_key)

    def open(self, descriptor: int, *, finished: bool = True) -> ByteStore:
        # A process may die between making a file and writing its head.
        if not finished and _is_writable(descriptor) and os.fstat(descriptor).st_size == 0:
            return self.create(descriptor)
        return super().open(descriptor, finished=finished)


def is_sealed(path: Path) -> bool:
    """Tell whether the file at `path` is a sealed one; False if there is none that can be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def fingerprint(file: BinaryIO, progress: Callable[[int], None] = lambda _: None) -> tuple[int, str]:
    """Size and SHA-256 of a recording as it is on the disk, with zeros in place of a sealed file's key slots.

    `progress` is told the bytes of each step. Raises OSError.
    """
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    while block := file.read(_READ_BYTES):
        if not size and block.startswith(MAGIC):
            end = min(len(block), _SLOTS_END)
            digest.update(block[: _SLOTS[0]] + bytes(max(0, end - _SLOTS[0])) + block[end:])
        else:
            digest.update(block)
        size += len(block)
        progress(len(block))
    return size, digest.hexdigest()


def key_ids(path: Path) -> list[str]:
    """The ids of the keys that wrap a sealed file's data key; none for a plain file. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return [key_id for _, key_id, _ in _filled_slots(head)] if head.startswith(MAGIC) else []


def rewrap(path: Path, keyring: Keyring) -> bool:
    """Wrap the data key of a sealed file by the keyring's first key, and by no other. Returns whether that was new.

    May be interrupted at any moment and done again. Raises KeyMaterialError, OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        head = os.pread(descriptor, HEAD_BYTES, 0)
        if not head.startswith(MAGIC):
            return False
        filled = {offset: key_id for offset, key_id, _ in _filled_slots(head)}
        if list(filled.values()) == [keyring.first]:
            return False
        file_id, data_key, opened = _unwrapped(head, keyring)
        current = opened
        if filled[opened] != keyring.first:
            # The other slot may have the first key's name and not open: it holds another key of that name, or half of
            # one. Only one that opens lets the old one go.
            current = next(offset for offset in _SLOTS if offset != opened)
            PlainStore(descriptor).write_at(current, _slot(file_id, data_key, keyring).ljust(_SLOT_BYTES, b"\0"))
            os.fsync(descriptor)
        for offset in filled.keys() - {current}:
            PlainStore(descriptor).write_at(offset, bytes(_SLOT_BYTES))
        os.fsync(descriptor)
        return True
    finally:
        os.close(descriptor)


def _is_writable(descriptor: int) -> bool:
    return fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR


def _name(descriptor: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/self/fd/{descriptor}").readlink().name
    return ""


def _place(number: int) -> int:
    """Where a chunk begins on the disk."""
    return HEAD_BYTES + number * STORED_BYTES


def _slot(file_id: bytes, data_key: bytes, keyring: Keyring) -> bytes:
    key_id = keyring.first.encode("ascii")
    nonce = os.urandom(_NONCE_BYTES)
    wrapped = keyring.cipher(keyring.first).encrypt(nonce, data_key, _WRAPPED_AS + file_id + key_id)
    return bytes([len(key_id)]) + key_id + nonce + wrapped


def _filled_slots(head: bytes) -> Iterator[tuple[int, str, bytes]]:
    """Offset, key id, and what follows that, of each slot that holds a key."""
    for offset in _SLOTS:
        slot = head[offset : offset + _SLOT_BYTES]
        if slot and slot[0]:
            yield offset, slot[1 : 1 + slot[0]].decode("ascii", "replace"), slot[1 + slot[0] :]


def _unwrapped(head: bytes, keyring: Keyring) -> tuple[bytes, bytes, int]:
    """File id, data key, and the offset of the slot that held it.

    Raises KeyMaterialError that names the keys that would open it.
    """
    file_id = head[_ID]
    asked, failed = [], []
    for offset, key_id, rest in _filled_slots(head):
        asked.append(key_id)
        if key_id not in keyring:
            continue
        try:
            data_key = keyring.cipher(key_id).decrypt(
                rest[:_NONCE_BYTES],
                rest[_NONCE_BYTES : _NONCE_BYTES + _WRAPPED_BYTES],
                _WRAPPED_AS + file_id + key_id.encode("ascii"),
            )
        except (InvalidTag, ValueError):
            failed.append(key_id)
            continue
        return file_id, data_key, offset
    if failed:
        raise KeyMaterialError(f"the key {failed[0]!r} is another one than it is sealed with, or its head was changed")
    if not asked:
        raise KeyMaterialError("it is sealed, and its head holds no key any more")
    raise KeyMaterialError(f"it is sealed with the key {_either(asked)}, which recording.encryption does not have")


def _either(key_ids: Iterable[str]) -> str:
    return " or ".join(repr(key_id) for key_id in key_ids)
