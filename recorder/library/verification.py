"""Checking what was kept: each recording against its manifest, the ledger and the index, and the ledger itself.

Nothing is written, and no private key is needed. What the ledger says counts most: then the manifest is held against
it, and the file, byte by byte. Beside a running recorder its unfinished recordings are left alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from recorder.errors import StorageError
from recorder.file_format import SUFFIXES
from recorder.library.folder import file_names
from recorder.library.ledger import (
    LEDGER_NAME,
    NO_LINE,
    BrokenLine,
    Head,
    KeptLine,
    line_signature_holds,
    manifest_signature_holds,
    parse_line,
    read_lines,
)
from recorder.library.manifest import MANIFEST_SUFFIX, Manifest, manifest_name
from recorder.library.recovery import is_recording
from recorder.sealed_store import fingerprint
from recorder.signing import PublicKeys

Kind = Literal["removed", "changed", "swapped", "added", "manifest", "ledger", "index", "unknown"]
Progress = Callable[["Report"], None]
Fingerprint = tuple[int, str]

UNSETTLED_S = 60.0
"""A recording that is younger may be on its way into ledger and index, where a recorder runs."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `name` is the file that it is about."""

    kind: Kind
    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}: {self.what}"


@dataclass(slots=True)
class Report:
    """What was looked at, and what was found; during the work, how far it has come.

    Attributes:
        recordings, bytes: so many are there to be looked at; `done` of them, `done_bytes`, have been.
        waiting: recordings that are signed and whole and not in the ledger yet; the next start enters them.
        in_work: left alone, because a recorder is running and they are new.
        head: the ledger's last line. signed_by: the key that it is signed by, None if none of those that are known.
    """

    recordings: int = 0
    bytes: int = 0
    done: int = 0
    done_bytes: int = 0
    waiting: int = 0
    in_work: int = 0
    head: Head | None = None
    signed_by: str | None = None
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all is right."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """What the index knows: the ledger's end, and every recording's size and SHA-256 by its file name."""

    head: Head | None
    recordings: Mapping[str, Fingerprint]


@dataclass(slots=True)
class _Ledger:
    """A ledger as it was read."""

    kept: dict[str, KeptLine] = field(default_factory=dict)
    head: Head | None = None
    intact: bool = True


def verify(
    folder: Path,
    index: IndexFacts | None = None,
    keys: PublicKeys | None = None,
    only: Collection[str] = (),
    noted: Head | None = None,
    progress: Progress = lambda _: None,
) -> Report:
    """Check the recordings in `folder`: all of them, or those whose file names or dialog ids are in `only`.

    Args:
        index: read before this is called, so that it cannot be ahead of the ledger; None: not looked at.
        keys: with them the ledger's last line has to be signed by one.
        noted: a last line of the ledger that was noted earlier, elsewhere; it has to be there still.
        progress: called again and again with the report as it grows.

    Raises:
        StorageError: the folder cannot be read.
    """
    report = Report()
    keys = keys or PublicKeys()
    running = _is_in_use(folder)
    names = set(file_names(folder))  # before the ledger: what is entered meanwhile is not looked for
    ledger = _read_ledger(folder / LEDGER_NAME, keys, report)
    for head, who in ((index.head if index else None, "the index knows"), (noted, "was noted")):
        _check_head(folder / LEDGER_NAME, head, who, ledger, report)
    check = _Check(folder, names, ledger, index, keys, running, report, progress)
    wanted = _wanted(check.all_names(), only, report)
    report.recordings = len(wanted)
    report.bytes = sum(check.size(name) for name in wanted)
    for name in wanted:
        check.recording(name)
        report.done += 1
        progress(report)
    return report


def _wanted(names: list[str], only: Collection[str], report: Report) -> list[str]:
    if not only:
        return names
    by_key: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        stem = manifest_name(name).removesuffix(MANIFEST_SUFFIX)
        for key in (name, stem, stem.rpartition("~")[2]):
            by_key[key].append(name)
    found = dict.fromkeys(name for one in only for name in by_key.get(one, ()))
    for one in only:
        if one not in by_key:
            report.problems.append(
                Problem("unknown", one, "no recording of this name or dialog is in the folder, the ledger or the index")
            )
    return list(found)


# The ledger -----------------------------------------------------------------------------------------------------------


def _read_ledger(path: Path, keys: PublicKeys, report: Report) -> _Ledger:
    ledger = _Ledger()

    def wrong(number: int, what: str) -> None:
        ledger.intact = False
        report.problems.append(Problem("ledger", path.name, f"line {number}: {what}"))

    last, number, previous = b"", 0, NO_LINE
    if path.exists():
        for number, (offset, content) in enumerate(read_lines(path), start=1):
            try:
                line = parse_line(content)
            except (ValidationError, ValueError):
                wrong(number, "is not a line of a ledger")
            else:
                if line.previous != previous or line.line != number:
                    wrong(number, "does not follow the line before it: lines were changed, removed or put in here")
                if isinstance(line, BrokenLine):
                    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(line.at_ms / 1000))
                    was = f"; it had gone on to line {line.expected}" if line.expected else ""
                    wrong(number, f"the recorder found at {at} that lines before this one were missing or changed{was}")
                elif isinstance(line, KeptLine) and not is_recording(line.file):
                    wrong(number, f"{line.file!r} cannot be the name of a recording of ours")
                elif isinstance(line, KeptLine) and line.file in ledger.kept:
                    wrong(number, f"{line.file} is entered a second time; the first one counts")
                elif isinstance(line, KeptLine):
                    ledger.kept[line.file] = line
            previous = hashlib.sha256(content).hexdigest()
            ledger.head, last = Head(number, offset, previous), content
    report.head = ledger.head
    if keys and ledger.head is not None:
        _check_signatures(path, last, keys, wrong, report)
    return ledger


def _check_signatures(
    path: Path, last: bytes, keys: PublicKeys, wrong: Callable[[int, str], None], report: Report
) -> None:
    """The last line's signature stands for all before it; when it does not hold, find where that begins."""
    if line_signature_holds(last, keys):
        report.signed_by = _signer_of(last)
        return
    first_bad, why = 0, ""
    for number, (_, content) in enumerate(read_lines(path), start=1):
        if line_signature_holds(content, keys):
            first_bad = 0
        elif not first_bad:
            first_bad = number
            signer = _signer_of(content)
            why = (
                "is not signed"
                if signer is None
                else "bears a signature that does not fit it"
                if signer in keys
                else f"is signed by {signer}, which is none of the known keys ({keys})"
            )
    wrong(first_bad, f"{why}; nothing that is signed follows")


def _signer_of(content: bytes) -> str | None:
    with suppress(ValueError):
        line = parse_line(content)
        return line.signature.key_id if line.signature else None
    return None


def _check_head(path: Path, expected: Head | None, who: str, ledger: _Ledger, report: Report) -> None:
    """The line that ended the ledger at an earlier time has to be there still."""
    if expected is None or expected == ledger.head:
        return
    if ledger.head is None or ledger.head.line < expected.line:
        ledger.intact = False
        end = f"ends at line {ledger.head.line}" if ledger.head else "is empty or gone"
        report.problems.append(
            Problem("ledger", path.name, f"{end}, and {who} line {expected.line}: lines were cut off")
        )
        return
    there = next((content for number, (_, content) in enumerate(read_lines(path), 1) if number == expected.line), b"")
    if hashlib.sha256(there).hexdigest() != expected.sha256:
        ledger.intact = False
        report.problems.append(
            Problem("ledger", path.name, f"line {expected.line} is not the one that {who}: the ledger was exchanged")
        )


# One recording --------------------------------------------------------------------------------------------------------


class _Check:
    """Holds each recording against everything that is known of it; names at most what explains the rest."""

    def __init__(
        self,
        folder: Path,
        names: set[str],
        ledger: _Ledger,
        index: IndexFacts | None,
        keys: PublicKeys,
        running: bool,
        report: Report,
        progress: Progress,
    ) -> None:
        self._folder = folder
        self._names = names
        self._ledger = ledger
        self._index = index
        self._keys = keys
        self._running = running
        self._report = report
        self._progress = progress
        self._owners = {line.sha256: line.file for line in ledger.kept.values()}

    def all_names(self) -> list[str]:
        """The file names of all recordings that there are or should be."""
        found = {name for name in self._names if name.endswith(SUFFIXES) and is_recording(name)}
        found |= self._ledger.kept.keys()
        found |= self._index.recordings.keys() if self._index else set()
        described = {manifest_name(name) for name in found}
        for name in self._names - described:
            if name.endswith(MANIFEST_SUFFIX) and is_recording(name):
                found.add(self._described_by(name))
        return sorted(found)

    def _described_by(self, manifest: str) -> str:
        try:
            return Manifest.read(self._folder / manifest).file_name
        except StorageError:
            return manifest.removesuffix(MANIFEST_SUFFIX) + SUFFIXES[0]

    def size(self, name: str) -> int:
        """Bytes of a recording's file; 0 when there is none."""
        try:
            return (self._folder / name).stat().st_size
        except OSError:
            return 0

    def recording(self, name: str) -> None:
        """Check one recording."""
        line = self._ledger.kept.get(name)
        row = self._index.recordings.get(name) if self._index else None
        if line is None and self._is_in_work(name):
            self._report.in_work += 1
            return
        manifest = self._manifest(name, line)
        if not self._is_there(name):
            also = "" if manifest_name(name) in self._names else ", and so is its manifest"
            said = ("ledger", line) if line else ("index", row) if row else ("manifest", True)
            self._add("removed", name, f"the recording is gone{also}; the {said[0]} has it")
            return
        trusted: tuple[str, Fingerprint] | None = None
        if line is not None:
            trusted = "ledger", (line.bytes, line.sha256)
        elif manifest is not None:
            trusted = "manifest", (manifest.bytes, manifest.sha256)
        if line is None and not self._may_be_outside(manifest, row):
            if row is None:
                self._add("added", name, "is not in the ledger: this recorder did not keep it")
            else:
                self._add(
                    "ledger", name, "is in the index and not in the ledger; its line could not be written, or is gone"
                )
            return
        if trusted is not None and self._content(name, *trusted) and row is not None and row != trusted[1]:
            self._add("index", name, f"the index has another size or SHA-256 than the {trusted[0]}")
        if self._index is not None and row is None and line is not None and not self._is_young(name):
            self._add("index", name, "is not in the index; 'recorder recover' enters it")

    def _manifest(self, name: str, line: KeptLine | None) -> Manifest | None:
        """Check the manifest of a recording; return it if it can be relied on."""
        file = manifest_name(name)
        path = self._folder / file
        if file not in self._names:
            if self._is_there(name) and line is not None:
                self._add("removed", file, "the manifest is gone, its recording is there")
            return None
        try:
            content = path.read_bytes()
            manifest = Manifest.read(path)
        except OSError as error:
            self._add("manifest", file, f"cannot be read: {error.strerror}")
            return None
        except StorageError as error:
            swapped = "the manifest of another recording" in str(error)
            self._add("swapped" if swapped else "manifest", file, str(error).removeprefix(f"{path}: "))
            return None
        if manifest.file_name != name:
            if line is not None:
                self._add("swapped", file, f"is the manifest of {manifest.file_name}")
            return None
        if line is not None and hashlib.sha256(content).hexdigest() != line.manifest_sha256:
            self._add("manifest", file, f"is not the one that line {line.line} of the ledger was written for")
            return None
        known = manifest.signature is not None and manifest.signature.key_id in self._keys
        if known and not manifest_signature_holds(content, self._keys):
            self._add("manifest", file, "bears a signature that does not fit it")
            return None
        return manifest

    def _content(self, name: str, source: str, expected: Fingerprint) -> bool:
        """Read the file; tell whether it is what it should be."""
        try:
            size, sha256 = self._fingerprint(name)
        except OSError as error:
            self._add("changed", name, f"cannot be read: {error.strerror}")
            return False
        if (size, sha256) == expected:
            return True
        owner = self._owners.get(sha256)
        if owner is not None and owner != name:
            self._add("swapped", name, f"holds what was recorded as {owner}")
        elif size != expected[0]:
            self._add("changed", name, f"has {size} bytes, and the {source} says {expected[0]}")
        else:
            self._add("changed", name, f"its SHA-256 is {sha256}, and the {source} says {expected[1]}")
        return False

    def _fingerprint(self, name: str) -> Fingerprint:
        def count(read: int) -> None:
            self._report.done_bytes += read
            self._progress(self._report)

        with (self._folder / name).open("rb") as file:
            return fingerprint(file, count)

    def _may_be_outside(self, manifest: Manifest | None, row: Fingerprint | None) -> bool:
        """Whether a recording that is not in the ledger is one of ours all the same."""
        signed = manifest is not None and manifest.signature is not None and manifest.signature.key_id in self._keys
        if not self._ledger.intact:
            # Its line may be among those that are missing, which is named already.
            return signed or row is not None
        self._report.waiting += signed
        return signed

    def _is_in_work(self, name: str) -> bool:
        return self._running and self._is_young(name)

    def _is_young(self, name: str) -> bool:
        for file in (name, manifest_name(name)):
            with suppress(OSError):
                if time.time() - (self._folder / file).stat().st_mtime < UNSETTLED_S:
                    return True
        return False

    def _is_there(self, name: str) -> bool:
        # Asked anew: it may have come since the folder was listed.
        return name in self._names or (self._folder / name).exists()

    def _add(self, kind: Kind, name: str, what: str) -> None:
        self._report.problems.append(Problem(kind, name, what))


def _is_in_use(folder: Path) -> bool:
    """Whether a recorder is running on this folder: it has the ledger locked."""
    try:
        descriptor = os.open(folder / LEDGER_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
