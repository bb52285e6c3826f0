"""Taking up what a crash interrupted, from the files in the recordings' folder alone.

The next start, before any call, does in this order (a composition root joins the first step with `recorder.media`):

1. for each of `find_unfinished`: repair its audio, give it its final name, write its `recovered_manifest`;
2. `reindex`: makes the manifests that are missing, and enters in the index what it lacks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile
import structlog

from recorder.byte_store import PLAIN, Storage, reading
from recorder.errors import StorageError
from recorder.file_format import SUFFIXES, Container, suffix_of
from recorder.identifiers import RecordingName
from recorder.library.database import EntryError
from recorder.library.durable import TEMPORARY_SUFFIX
from recorder.library.folder import file_names
from recorder.library.index import Index, IndexEntry
from recorder.library.manifest import (
    MANIFEST_SUFFIX,
    AudioFormat,
    CommittedFile,
    Manifest,
    NameParts,
    Parties,
    WrittenFile,
    manifest_name,
    manifest_path,
)
from recorder.library.spill import find_spills, read_spill
from recorder.sealed_store import fingerprint, is_sealed
from recorder.signing import Signer
from recorder.tags import Tags

_log = structlog.get_logger()

PART_SUFFIX = ".part"
_BATCH = 200
_CONTAINERS: dict[str, Container] = {"WAV": "wav", "WAVEX": "wav", "RF64": "wav", "FLAC": "flac", "OGG": "ogg"}
_ENCODINGS = {"PCM_16": "pcm_s16le", "PCM_U8": "pcm_u8", "ULAW": "pcm_mulaw", "ALAW": "pcm_alaw"}


@dataclass(slots=True)
class ReindexReport:
    """What `reindex` did: recordings and CDRs entered, manifests made, and what could not be taken up, with why."""

    recordings: int = 0
    cdrs: int = 0
    manifests: int = 0
    problems: list[str] = field(default_factory=list)


def find_unfinished(folder: Path) -> list[Path]:
    """List the recordings that were being written when the process ended. Raises StorageError."""
    return [folder / name for name in file_names(folder) if name.endswith(PART_SUFFIX)]


def recording_name(path: Path) -> RecordingName:
    """The identity of a recording, its manifest or its unfinished file. Raises ValueError for a foreign name."""
    stem = path.name.removesuffix(PART_SUFFIX)
    for suffix in (*SUFFIXES, MANIFEST_SUFFIX):
        stem = stem.removesuffix(suffix)
    return RecordingName.parse(stem)


def recovered_manifest(
    name: RecordingName,
    file: WrittenFile,
    audio: AudioFormat | None = None,
    ended_ms: int | None = None,
    cdr: Mapping[str, Any] | None = None,
    tags: Tags | None = None,
) -> Manifest:
    """Make the manifest of a recording whose call's facts died with the process.

    `ended_ms` is epoch milliseconds, by default the time of the last write to `file`; `audio` and `tags` are by default
    what the file says of itself (no tags where `audio` alone is given). Without `cdr`, one is made that says what the
    file proves: a call that failed because the recorder restarted. Raises StorageError when the file has to be looked
    into and cannot be read.
    """
    if audio is None:
        audio, _, found = _read_header(file.path)
        tags = found if tags is None else tags
    tags = Tags() if tags is None else tags
    if ended_ms is None:
        try:
            ended_ms = file.path.stat().st_mtime_ns // 1_000_000
        except OSError:
            ended_ms = name.dialog_timestamp_ms
    ended_ms = max(ended_ms, name.dialog_timestamp_ms)
    duration_s = file.samples / audio.sample_rate_hz
    return Manifest(
        name=NameParts.of(name),
        file_name=name.stem + suffix_of(audio.container),
        format=audio,
        duration_s=duration_s,
        samples=file.samples,
        bytes=file.bytes,
        sha256=file.sha256,
        started_ms=name.dialog_timestamp_ms,
        answered_ms=tags.start_ms,
        ended_ms=ended_ms,
        parties=Parties(calling=tags.calling or None, called=tags.called or None),
        recovered=True,
        encrypted=is_sealed(file.path),
        cdr=dict(cdr) if cdr is not None else recovered_cdr(name, audio, tags, ended_ms, duration_s),
    )


def manifest_from_audio(path: Path, storage: Storage = PLAIN) -> Manifest:
    """Make a manifest from a finished recording that has none. Reads the whole file. Raises StorageError."""
    try:
        name = recording_name(path)
        audio, samples, tags = _read_header(path, storage)
        with path.open("rb") as file:
            size, sha256 = fingerprint(file)
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: no manifest can be made of it: {error}") from error
    return recovered_manifest(name, CommittedFile(path, samples, size, sha256), audio, tags=tags)


def reindex(
    folder: Path,
    index: Index,
    settled_s: float = 0,
    signer: Signer | None = None,
    storage: Storage = PLAIN,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    complete: Callable[[Manifest, Path], Manifest] = lambda manifest, _folder: manifest,
) -> ReindexReport:
    """Enter in the index every recording in `folder` that it lacks, with its CDR and its usage entry.

    Makes the manifest of a recording that has none first (`complete` adds what it knows; signed, with a `signer`), and
    takes in the CDRs that an earlier process had to leave behind. One file that cannot be used is a line in the
    report's `problems`, and the rest goes on. Beside a running recorder give `settled_s`: files written to less than so
    many seconds ago are left to it. `progress` is told, again and again, how many recordings have been looked at, and
    how many there are.
    Raises StorageError when the folder or the index as a whole cannot be used.
    """
    report = ReindexReport()
    # First: a CDR that was kept says more than the one made for a recovered recording.
    _take_in_spills(folder, index, report)
    before_ns = time.time_ns() - int(settled_s * 1e9) if settled_s else sys.maxsize
    listed = file_names(folder)
    names = set(listed)
    _remove_leftovers(folder, listed, before_ns)
    recordings = [name for name in listed if name.endswith(SUFFIXES) and name.isascii()]
    known = index.known_files(recordings)
    batch: list[IndexEntry] = []
    for number, name in enumerate(recordings):
        if number % _BATCH == 0:
            progress(number, len(recordings))
        has_manifest = manifest_name(name) in names
        if (has_manifest and name in known) or not is_recording(name):
            continue
        path = folder / name
        try:
            if path.stat().st_mtime_ns > before_ns:
                continue
            manifest = _checked(path) if has_manifest else _made(path, report, signer, storage, complete)
        except (StorageError, OSError) as error:
            _note(report, str(error))
            continue
        if name not in known:
            batch.append((_unknown_cdr(index, manifest.cdr), manifest))
        if len(batch) >= _BATCH:
            _add(index, batch, report)
            batch = []
    _add(index, batch, report)
    progress(len(recordings), len(recordings))
    _note_missing_audio(names, report)
    return report


def _read_header(path: Path, storage: Storage = PLAIN) -> tuple[AudioFormat, int, Tags]:
    """What a file says of itself: its format, how many samples of one channel it has, its tags."""
    try:
        with reading(path, storage) as file, soundfile.SoundFile(file) as sound:
            container = _CONTAINERS.get(sound.format)
            if container is None:
                raise StorageError(f"{path}: no manifest can be made of it: a recording is no {sound.format} file")
            encoding = "flac" if container == "flac" else _ENCODINGS.get(sound.subtype, sound.subtype.lower())
            audio = AudioFormat(
                container=container, sample_rate_hz=sound.samplerate, channels=sound.channels, encoding=encoding
            )
            texts = {name: getattr(sound, name) or "" for name in ("title", "date", "comment")}
            return audio, sound.frames, Tags.from_texts(texts)
    except (OSError, soundfile.SoundFileError) as error:
        raise StorageError(f"{path}: no manifest can be made of it: {error}") from error


def is_recording(name: str) -> bool:
    """Whether a file of this name is a recording of ours, its manifest or its unfinished file."""
    try:
        recording_name(Path(name))
    except ValueError:
        return False
    return "/" not in name


def _remove_leftovers(folder: Path, names: list[str], before_ns: int) -> None:
    there = set(names)
    for name in names:
        whole = name.removesuffix(TEMPORARY_SUFFIX)
        # Where the `.part` is there, a recording is perhaps being made of it right now.
        if whole == name or whole + PART_SUFFIX in there or not is_recording(whole):
            continue
        if not whole.endswith((*SUFFIXES, MANIFEST_SUFFIX)):
            continue
        path = folder / name
        try:
            if path.stat().st_mtime_ns <= before_ns:
                path.unlink()
        except OSError as error:
            _log.warning("leftover_not_removed", path=str(path), error=error.strerror)


def _checked(path: Path) -> Manifest:
    manifest = Manifest.read(manifest_path(path))
    if manifest.file_name != path.name:
        raise StorageError(f"{path}: beside it is the manifest of {manifest.file_name}; not entered in the index")
    size = path.stat().st_size
    if size != manifest.bytes:
        raise StorageError(
            f"{path}: has {size} bytes, and its manifest says {manifest.bytes}; not entered in the index"
        )
    return manifest


def _made(
    path: Path,
    report: ReindexReport,
    signer: Signer | None,
    storage: Storage,
    complete: Callable[[Manifest, Path], Manifest],
) -> Manifest:
    manifest = complete(manifest_from_audio(path, storage), path.parent).signed(signer)
    manifest.write(path.parent)
    report.manifests += 1
    return manifest


def _unknown_cdr(index: Index, cdr: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    try:
        known = cdr is None or index.has_cdr(str(cdr["id"]), int(cdr["time"]))
    except (LookupError, TypeError, ValueError):
        known = False
    return None if known else cdr


def _add(index: Index, batch: list[IndexEntry], report: ReindexReport) -> None:
    for entries in _together_or_apart(index, batch, report):
        report.recordings += sum(manifest is not None for _, manifest in entries)
        report.cdrs += sum(cdr is not None for cdr, _ in entries)


def _together_or_apart(index: Index, batch: list[IndexEntry], report: ReindexReport) -> Iterator[list[IndexEntry]]:
    try:
        if batch:
            index.add_calls(batch)
            yield batch
    except EntryError:
        for cdr, manifest in batch:
            # A CDR that cannot be stored is no reason to leave its recording out.
            for entry in [(cdr, manifest)] + ([(None, manifest)] if cdr and manifest else []):
                try:
                    index.add_call(*entry)
                    yield [entry]
                    break
                except EntryError as error:
                    _note(report, str(error))


def _note(report: ReindexReport, problem: str) -> None:
    _log.warning("recovery_problem", problem=problem)
    report.problems.append(problem)


def _note_missing_audio(names: set[str], report: ReindexReport) -> None:
    for name in sorted(names):
        stem = name.removesuffix(MANIFEST_SUFFIX)
        if stem == name or any(stem + suffix in names for suffix in SUFFIXES):
            continue
        if is_recording(name):
            _note(report, f"{name}: a manifest without its recording")


def _take_in_spills(folder: Path, index: Index, report: ReindexReport) -> None:
    for path in find_spills(folder):
        try:
            cdrs = read_spill(path)
        except StorageError as error:
            _note(report, str(error))
            continue
        once = {(str(cdr.get("id")), str(cdr.get("time"))): cdr for cdr in cdrs}
        unknown: list[IndexEntry] = [(cdr, None) for cdr in once.values() if _unknown_cdr(index, cdr) is not None]
        problems = len(report.problems)
        _add(index, unknown, report)
        if len(report.problems) == problems:
            path.unlink(missing_ok=True)


def recovered_cdr(
    name: RecordingName, audio: AudioFormat, tags: Tags, ended_ms: int, duration_s: float
) -> dict[str, Any]:
    """Make the CDR of a call whose recording is all that is known of it."""
    return {
        "id": name.dialog_id,
        "time": name.dialog_timestamp_ms,
        "group_id": name.group_id,
        "account_id": name.account_id,
        "calling": tags.calling,
        "called": tags.called,
        "result": "failed",
        "reason": "recorder_restarted",
        "answered_ms": tags.start_ms,
        "ended_ms": ended_ms,
        "duration_s": duration_s,
        "sip_status": None,
        "a_sip_call_id": None,
        "b_sip_call_id": None,
        "recorded": True,
        "file": name.stem + suffix_of(audio.container),
        "details": {"recovered": True},
    }
