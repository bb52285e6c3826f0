"""The ledger: one line for each recording that was ever kept, chained, so that none is changed or removed unnoticed.

`ledger.jsonl` stands in the recordings' folder. Each line is a JSON object in its canonical spelling
(`recorder.signing.canonical`) and holds the SHA-256 of the line before it (`previous`; 64 zeros in the first). With a
signing key each line also ends in a signature, of all of the line that is not the signature. Since a line stands for
all lines before it, one signature that holds at the end proves the whole.

A line is

- `begun`: the first one, from before anything was kept;
- `kept`: a recording's file name, size and SHA-256, and the SHA-256 of its manifest's file;
- `broken`: the recorder found that the ledger did not go on where it had ended (`expected`; null when it is not known).
  What is missing cannot be brought back; that it is missing stays to be seen.

The order of things makes it hold through a crash: audio file, manifest (signed for itself), line of the ledger, and
then one transaction of the index that enters the recordings and the ledger's new end. So the index never knows of an
end that the ledger does not have. A line that was being written when the process died has no line feed: `Ledger` cuts
it off, and `enroll` enters at the next start what had got as far as its manifest. An end that the index knows and the
ledger does not have is no crash.

Lines are appended by one thread at a time, a batch with one fsync. A lock keeps a second recorder out of the folder.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from recorder.byte_store import sync_folder
from recorder.errors import StorageError
from recorder.library.durable import FILE_MODE
from recorder.library.folder import file_names
from recorder.library.manifest import MANIFEST_SUFFIX, SIGNED_AS, Count, EpochMs, Manifest, Sha256, manifest_name
from recorder.signing import PublicKeys, Signature, Signer, canonical

_log = structlog.get_logger()

LEDGER_NAME = "ledger.jsonl"
LINE_SIGNED_AS = "recorder ledger 1"
NO_LINE = "0" * 64
MAX_LINE_BYTES = 16 * 1024
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_LOCK_S = 1.0
_BATCH = 200


@dataclass(frozen=True, slots=True)
class Head:
    """The last line of a ledger: its number (from 1), the offset it starts at, and the SHA-256 of it."""

    line: int
    offset: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.line}:{self.sha256}"


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    line: Annotated[int, Field(gt=0)]
    at_ms: EpochMs
    previous: Sha256
    signature: Signature | None = None


class BegunLine(_Line):
    """The ledger was made."""

    event: Literal["begun"]


class KeptLine(_Line):
    """A recording was kept."""

    event: Literal["kept"]
    file: str
    bytes: Count
    sha256: Sha256
    manifest_sha256: Sha256
    recovered: bool


class BrokenLine(_Line):
    """The ledger was found not to go on where it had ended."""

    event: Literal["broken"]
    expected: str | None


Line = BegunLine | KeptLine | BrokenLine
_LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="event")])


class Ledger:
    """The ledger in `folder`, open for appending; made when it is not there. One thread at a time.

    `anchor` is the end that the index knows, None if it knows none. Raises StorageError when the file cannot be used,
    or another process has it. `broken` says what was found wrong with it when it was opened, None if nothing;
    `is_new`, that there was none.
    """

    def __init__(self, folder: Path, signer: Signer | None = None, anchor: Head | None = None) -> None:
        self.path = folder / LEDGER_NAME
        self.signer = signer
        self.broken: str | None = None
        self.is_new = False
        self.head: Head | None = anchor
        self._size = 0
        self._descriptor: int | None = None
        self._ensure_open()

    def append(self, kept: Iterable[tuple[Manifest, bytes]]) -> Head | None:
        """Enter recordings by their manifests and the content of these' files, durably: all of them, or none.

        Returns the new end. Raises StorageError.
        """
        self._ensure_open()
        self._write([_kept(manifest, content) for manifest, content in kept])
        return self.head

    def files(self) -> set[str]:
        """The names of all recordings that were ever entered. Reads the whole ledger. Raises StorageError."""
        names = set()
        for _, content in read_lines(self.path):
            with suppress(ValueError, LookupError, TypeError):  # a line that was spoiled is `verify`'s to name
                names.add(str(json.loads(content)["file"]))
        return names

    def close(self) -> None:
        """Let go of the file. Using the ledger afterwards opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _ensure_open(self) -> None:
        """Open the file, or open it again when it is not the one any more that is at its path."""
        try:
            if self._descriptor is not None and not self._as_it_was(self._descriptor):
                self.close()
            if self._descriptor is None:
                self._open()
        except OSError as error:
            raise self._refused("cannot be opened", error) from error

    def _as_it_was(self, descriptor: int) -> bool:
        mine = os.fstat(descriptor)
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(mine, there) and mine.st_size >= self._size

    def _open(self) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            self._lock(descriptor)
            sync_folder(self.path.parent)
            expected, (found, size) = self.head, _end(self.path, self.head)
            os.ftruncate(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor, self._size, self.head = descriptor, size, found
        if expected is not None and not _leads_to(self.path, expected):
            at = f"ended in line {found.line}" if found else "was empty"
            self.broken = f"{self.path}: {at}, and had gone on to line {expected.line}; 'recorder verify' tells more"
            _log.error("ledger_broken", path=str(self.path), expected=str(expected), found=str(found))
            self.mark_broken(expected)
        elif found is None:
            self.is_new = True
            self._write([{"event": "begun"}])

    def mark_broken(self, expected: Head | None = None) -> None:
        """Enter that the ledger does not go on where it had ended. Raises StorageError."""
        self._write([{"event": "broken", "expected": str(expected) if expected else None}])

    def _lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + _LOCK_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Whoever verifies looks at the lock for a moment.
                if time.monotonic() < deadline:
                    time.sleep(_LOCK_S / 20)
                    continue
                raise StorageError(f"{self.path}: a running recorder is using this folder; stop it first") from None
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            return

    def _write(self, events: Sequence[dict[str, Any]]) -> None:
        assert self._descriptor is not None
        content = bytearray()
        head = self.head
        for event in events:
            offset = self._size + len(content)
            number, previous = (head.line + 1, head.sha256) if head else (1, NO_LINE)
            line = event | {"line": number, "previous": previous, "at_ms": time.time_ns() // 1_000_000}
            if self.signer is not None:
                line["signature"] = self.signer.sign(LINE_SIGNED_AS, line).model_dump()
            encoded = canonical(line)
            content += encoded + b"\n"
            head = Head(number, offset, hashlib.sha256(encoded).hexdigest())
        try:
            os.ftruncate(self._descriptor, self._size)  # what an earlier attempt may have left
            done = 0
            while done < len(content):
                done += os.pwrite(self._descriptor, content[done:], self._size + done)
            os.fsync(self._descriptor)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            self.close()  # a disk that failed cannot be mounted anew while a file on it is open
            raise self._refused("cannot be written", error) from error
        self._size += len(content)
        self.head = head

    def _refused(self, what: str, error: OSError) -> StorageError:
        return StorageError(f"{self.path}: {what}: {error.strerror}; check that its folder is writable and not full")


def enroll(folder: Path, ledger: Ledger) -> list[str]:
    """Enter the recordings of `folder` that have a manifest and are not in the ledger; for a start, before any call.

    Such are those that a crash kept from it, and, in a ledger that is new, all that there are. With a signing key, a
    manifest has to be signed by it, unless the ledger has none yet. Returns a line for each that was left out, with
    why. Raises StorageError when the folder or the ledger cannot be used.
    """
    known = {manifest_name(file) for file in ledger.files()}
    is_first = not known
    keys = PublicKeys([ledger.signer.public_key] if ledger.signer else [])
    problems: list[str] = []
    batch: list[tuple[Manifest, bytes]] = []
    for name in file_names(folder):
        if not name.endswith(MANIFEST_SUFFIX) or name in known:
            continue
        try:
            manifest, content = Manifest.read(folder / name), (folder / name).read_bytes()
            if (folder / manifest.file_name).stat().st_size != manifest.bytes:
                continue
        except (StorageError, OSError):  # not a recording, or one that `recovery.reindex` complains of
            continue
        if ledger.is_new and is_first and manifest.signature is not None:
            # There was a ledger when it was signed.
            ledger.mark_broken()
            is_first = False
            problems.append(f"{ledger.path}: is new, and recordings are there that an earlier one must have had")
        if keys and not is_first and not manifest_signature_holds(content, keys):
            problems.append(f"{folder / name}: is not in the ledger, nor signed by this recorder's key; not entered")
            continue
        batch.append((manifest, content))
    for start in range(0, len(batch), _BATCH):
        ledger.append(batch[start : start + _BATCH])
    return problems


def manifest_signature_holds(content: bytes, keys: PublicKeys) -> bool:
    """Tell whether the manifest with this content is signed by one of `keys`."""
    return _signed_by(content, SIGNED_AS, keys)


def read_lines(path: Path, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Give each whole line's offset and content, without its line feed. Raises StorageError."""
    try:
        with path.open("rb") as file:
            yield from _lines(file, offset)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error


def _lines(file: BinaryIO, offset: int) -> Iterator[tuple[int, bytes]]:
    file.seek(offset)
    # A line that is longer than any of ours comes in pieces, none of which is one.
    while content := file.readline(MAX_LINE_BYTES):
        if content.endswith(b"\n"):
            yield offset, content[:-1]
        offset += len(content)


def parse_line(content: bytes) -> Line:
    """Read a line. Raises ValueError."""
    return _LINE.validate_json(content)


def line_signature_holds(content: bytes, keys: PublicKeys) -> bool:
    """Tell whether a line is signed by one of `keys`."""
    return _signed_by(content, LINE_SIGNED_AS, keys)


def _signed_by(content: bytes, kind: str, keys: PublicKeys) -> bool:
    try:
        fields = json.loads(content)
        signature = Signature.model_validate(fields.pop("signature"))
    except (ValueError, LookupError, AttributeError, TypeError):
        return False
    return keys.hold(kind, fields, signature)


def _kept(manifest: Manifest, content: bytes) -> dict[str, Any]:
    return {
        "event": "kept",
        "file": manifest.file_name,
        "bytes": manifest.bytes,
        "sha256": manifest.sha256,
        "manifest_sha256": hashlib.sha256(content).hexdigest(),
        "recovered": manifest.recovered,
    }


def _leads_to(path: Path, expected: Head) -> bool:
    """Whether the ledger at `path` has this line where it is said to be."""
    offset, content = next(read_lines(path, expected.offset), (-1, b""))
    return offset == expected.offset and hashlib.sha256(content).hexdigest() == expected.sha256


def _end(path: Path, anchor: Head | None) -> tuple[Head | None, int]:
    """Find the last whole line and the size up to it; from `anchor` on when it is there, otherwise from the start."""
    number, offset = (anchor.line - 1, anchor.offset) if anchor and _leads_to(path, anchor) else (0, 0)
    last: tuple[int, bytes] | None = None
    for last in read_lines(path, offset):  # noqa: B007  # the last one is what is looked for
        number += 1
    if last is None:
        return None, 0
    return Head(number, last[0], hashlib.sha256(last[1]).hexdigest()), last[0] + len(last[1]) + 1
