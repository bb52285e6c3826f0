"""The manifest: everything known of one recording, as JSON beside its file and under the same name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from recorder import __version__
from recorder.errors import StorageError
from recorder.file_format import SUFFIXES, Container, FileFormat, suffix_of
from recorder.identifiers import RecordingName
from recorder.library.durable import write_atomically
from recorder.signing import Signature, Signer

SCHEMA_VERSION: Literal[1] = 1
MANIFEST_SUFFIX = ".json"
SIGNED_AS = "recorder manifest 1"

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
EpochMs = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class WrittenFile(Protocol):
    """A finished file as whoever wrote it describes it: durable, under its final name, no longer changing."""

    @property
    def path(self) -> Path: ...
    @property
    def samples(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """The plain `WrittenFile`. `samples` counts one channel; `sha256` is lower-case hex of the whole file."""

    path: Path
    samples: int
    bytes: int
    sha256: str


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NameParts(_Part):
    """The identity of the recording, as its file name spells it."""

    group_id: str
    account_id: str
    dialog_timestamp_ms: EpochMs
    dialog_id: str

    @classmethod
    def of(cls, name: RecordingName) -> NameParts:
        """Take the parts of `name`, which has checked them."""
        return cls(
            group_id=name.group_id,
            account_id=name.account_id,
            dialog_timestamp_ms=name.dialog_timestamp_ms,
            dialog_id=name.dialog_id,
        )

    @property
    def recording_name(self) -> RecordingName:
        """The parts as a checked name. Raises ValueError when one does not match its pattern."""
        return RecordingName(self.group_id, self.account_id, self.dialog_timestamp_ms, self.dialog_id)


class AudioFormat(_Part):
    """How the samples are stored."""

    container: Container = "wav"
    sample_rate_hz: Annotated[int, Field(gt=0)] = 8000
    channels: Annotated[int, Field(gt=0)] = 1
    encoding: str = "pcm_s16le"

    @classmethod
    def of(cls, file_format: FileFormat, sample_rate_hz: int) -> AudioFormat:
        """What `file_format` is, for the manifest."""
        return cls(
            container=file_format.container,
            sample_rate_hz=sample_rate_hz,
            channels=file_format.channels,
            encoding=file_format.codec,
        )


class Parties(_Part):
    """Who spoke, as seen on the wire. None: not known any more (a recording repaired after a crash)."""

    calling: str | None = None
    called: str | None = None


class LegFacts(_Part):
    """One leg. `remote_media` is `address:port`; packets are RTP packets of this leg's sender.

    `rx_lost` counts those since the answer that never came, by their sequence numbers; one that came twice hides none.
    Neither is known of a recording that was repaired after a crash.
    """

    sip_call_id: str | None = None
    codec: str | None = None
    remote_media: str | None = None
    rx_packets: Count | None = 0
    rx_lost: Count | None = 0


class EarlierLegFacts(LegFacts):
    """A leg whose place another one took, by a transfer, `until_s` seconds from the start of the file."""

    side: Literal["a", "b"]
    until_s: Seconds


class Legs(_Part):
    """Who was there at the end, and who before by way of a transfer."""

    a: LegFacts | None = None
    b: LegFacts | None = None
    earlier: tuple[EarlierLegFacts, ...] = ()


class GapFacts(_Part):
    """A stretch for which there is no audio; it is silence of the right length in the file. See recorder.media.gaps.

    `call_start_s` and `call_duration_s` say the same on the call's clock, see Manifest.
    """

    leg: Literal["a", "b", "both"]
    cause: str
    start_sample: Count
    samples: Count
    start_s: Seconds
    duration_s: Seconds
    call_start_s: Seconds | None = None
    call_duration_s: Seconds | None = None


class GapTotal(_Part):
    """All gaps of a leg that have one cause, on the call's clock, whether the manifest lists them or not."""

    leg: Literal["a", "b", "both"]
    cause: str
    gaps: Count
    duration_s: Seconds


class RedactionFacts(_Part):
    """A stretch that was kept off the disk. Not `resumed`: it lasted to the end.

    `control` says who asked (application, operator), `operators` by which names. Position and length are the file's (of
    a stretch that was left out: its join, and 0); `call_start_s` and `call_duration_s` are the call's, see Manifest.
    """

    start_sample: Count
    samples: Count
    start_s: Seconds
    duration_s: Seconds
    call_start_s: Seconds | None = None
    call_duration_s: Seconds | None = None
    step: str | None = None
    control: str
    operators: tuple[str, ...] = ()
    resumed: bool


class RemovedTone(_Part):
    """A stretch of a leg that is silent because a key was pressed there; not which. The rest as of GapFacts."""

    leg: Literal["a", "b"]
    start_sample: Count
    samples: Count
    start_s: Seconds
    duration_s: Seconds
    call_start_s: Seconds
    call_duration_s: Seconds


class JoinFacts(_Part):
    """Where a redacted stretch was left out: at `sample` of the file, `call_s` seconds into the call."""

    sample: Count
    start_s: Seconds
    call_s: Seconds
    left_out_s: Seconds


class Manifest(_Part):
    """Everything known of one recording.

    Times are epoch milliseconds, durations seconds, positions samples from the start of the file. `cdr` is the call's
    detail record, so that an index made anew from the manifests has lost nothing of a recorded call.

    The file's clock and the call's both begin with the answer. They are apart only where redacted stretches were left
    out of the file (`redaction_mode` pause), each a join: `duration_s` is then shorter than `call_duration_s`.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    recorder_version: str = __version__
    name: NameParts
    file_name: str
    format: AudioFormat = AudioFormat()
    duration_s: Seconds
    call_duration_s: Seconds | None = None
    samples: Count
    bytes: Count
    sha256: Sha256
    started_ms: EpochMs
    answered_ms: EpochMs | None = None
    ended_ms: EpochMs | None = None
    parties: Parties = Parties()
    legs: Legs = Legs()
    gaps: tuple[GapFacts, ...] = ()
    gap_totals: tuple[GapTotal, ...] = ()
    redaction_mode: Literal["mute", "pause", "tone"] | None = None
    redactions: tuple[RedactionFacts, ...] = ()
    joins: tuple[JoinFacts, ...] = ()
    tones_removed: tuple[RemovedTone, ...] = ()
    dropped_samples: Count = 0
    recovered: bool = False
    cdr: dict[str, Any] | None = None
    encrypted: bool = False
    signature: Signature | None = None

    @model_validator(mode="after")
    def _named_after_its_parts(self) -> Manifest:
        expected = self.name.recording_name.stem + suffix_of(self.format.container)
        if self.file_name != expected:
            raise ValueError(f"file_name {self.file_name!r} does not fit its name parts, which make {expected!r}")
        return self

    def path_in(self, folder: Path) -> Path:
        """Where this manifest is, or belongs, in the recordings' `folder`."""
        return manifest_path(folder / self.file_name)

    def write(self, folder: Path) -> Path:
        """Write the manifest into `folder`, durably and in one step; returns its path. Raises StorageError."""
        path = self.path_in(folder)
        write_atomically(path, encoded(self))
        return path

    def signed(self, signer: Signer | None) -> Manifest:
        """Sign all of it but the signature; without a signer nothing is signed."""
        if signer is None:
            return self
        content = json.loads(self.model_dump_json(exclude={"signature"}))
        return self.model_copy(update={"signature": signer.sign(SIGNED_AS, content)})

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read the manifest at `path` back. Raises StorageError that says which file, and what is wrong in it."""
        try:
            text = path.read_bytes()
        except OSError as error:
            raise StorageError(f"{path}: the manifest cannot be read: {error.strerror}") from error
        try:
            manifest = cls.model_validate_json(text)
        except ValidationError as error:
            raise StorageError(f"{path}: not a usable manifest: {_faults(error)}") from None
        if path != manifest.path_in(path.parent):
            raise StorageError(f"{path}: the manifest of another recording, {manifest.file_name}")
        return manifest


def encoded(manifest: Manifest) -> bytes:
    """The content of the manifest's file."""
    return manifest.model_dump_json(indent=1).encode() + b"\n"


def manifest_path(recording: Path) -> Path:
    """The manifest's path of the recording at `recording` (an identifier may hold a dot, so no `with_suffix`)."""
    return recording.with_name(manifest_name(recording.name))


def manifest_name(file_name: str) -> str:
    """The name of the manifest of the recording of this name."""
    stem = next((file_name.removesuffix(suffix) for suffix in SUFFIXES if file_name.endswith(suffix)), file_name)
    return stem + MANIFEST_SUFFIX


def _faults(error: ValidationError) -> str:
    lines = []
    for fault in error.errors(include_url=False, include_input=True):
        place = ".".join(str(part) for part in fault["loc"])
        if fault["loc"] == ("schema_version",):
            lines.append(f"schema_version {fault['input']!r} is not one this recorder reads; it reads {SCHEMA_VERSION}")
        else:
            lines.append(f"{place}: {fault['msg']}" if place else str(fault["msg"]))
    return "; ".join(lines)
