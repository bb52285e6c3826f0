"""A file as a row of bytes that can be read and written anywhere, whatever its layout on the disk.

Whoever touches audio on disk does it through a `ByteStore`: the `.part`, the encoder, recovery, playback.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol


class ByteStore(Protocol):
    """One open file. Used by one thread at a time; every method raises OSError.

    Offsets and sizes count bytes of the content, which need not be those of the file on the disk.
    """

    @property
    def descriptor(self) -> int:
        """The file itself: for its lock, its name, the checksum of what is on the disk. The store closes it."""

    @property
    def size(self) -> int:
        """How many bytes the content has."""

    def read_at(self, offset: int, count: int) -> bytes:
        """Read `count` bytes from `offset` on; fewer, or none, where the content ends."""

    def write_at(self, offset: int, content: bytes) -> None:
        """Write all of `content` at `offset`; it is the kernel's on return. What a jump leaves out reads as zeros.

        After it has raised, the content is as before, but for a beginning of `content` that may have been written:
        `size` tells how much of it when it was to be appended. The same may be written again.
        """

    def truncate(self, size: int) -> None:
        """Cut the content to `size` bytes, or extend it with zeros."""

    def sync(self) -> None:
        """Wait until all that was written is durable."""

    def close(self) -> None:
        """Let go of the file; nothing is synced. Closing again does nothing."""


class Storage(Protocol):
    """How files with audio are laid out. Both take over `descriptor`, also when they raise OSError or StorageError."""

    def create(self, descriptor: int) -> ByteStore:
        """The store of a file that has just been made, and is empty. It can be read and written."""

    def open(self, descriptor: int, *, finished: bool = True) -> ByteStore:
        """The store of a file that has content. It can be written if `descriptor` can.

        Not `finished`: whoever wrote it may have died, so that its end may be missing.
        """


class PlainStore:
    """A file whose bytes are the content."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def descriptor(self) -> int:
        return self._descriptor

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def read_at(self, offset: int, count: int) -> bytes:
        content = os.pread(self._descriptor, count, offset)
        while 0 < len(content) < count:
            more = os.pread(self._descriptor, count - len(content), offset + len(content))
            if not more:
                break
            content += more
        return content

    def write_at(self, offset: int, content: bytes) -> None:
        done = os.pwrite(self._descriptor, content, offset)
        while done < len(content):
            done += os.pwrite(self._descriptor, content[done:], offset + done)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class PlainStorage:
    """The plain layout."""

    def create(self, descriptor: int) -> PlainStore:
        return PlainStore(descriptor)

    def open(self, descriptor: int, *, finished: bool = True) -> PlainStore:  # noqa: ARG002 - it has no end of its own
        return PlainStore(descriptor)


PLAIN: Storage = PlainStorage()


class StoreReader(io.RawIOBase):
    """The content of a store as a file to be read, from its start. Closing it leaves the store open."""

    def __init__(self, store: ByteStore) -> None:
        self._store = store
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._store.size}[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        content = self._store.read_at(self._at, len(buffer))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


@contextmanager
def reading(path: Path, storage: Storage = PLAIN) -> Iterator[BinaryIO]:
    """Open the finished file at `path` to read its content. Raises OSError, StorageError."""
    store = storage.open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
    try:
        with io.BufferedReader(StoreReader(store), 1 << 16) as file:
            yield file
    finally:
        store.close()


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable (a rename is not, until its folder is synced). Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
