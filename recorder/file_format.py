"""The formats that a recording's file can have, and what tells them apart: the ending of its name, and its tags.

| encoding | file | |
| --- | --- | --- |
| pcm16 | `.wav` | linear, 16 bit |
| ulaw, alaw | `.wav` | G.711, 8 bit |
| flac | `.flac` | without loss |
| opus | `.opus` | Ogg Opus, 24 kbit/s a channel at 8 kHz, 32 kbit/s at 16 kHz |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Encoding = Literal["pcm16", "ulaw", "alaw", "flac", "opus"]
Container = Literal["wav", "flac", "ogg"]

ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
CONTENT_TYPES = {".wav": "audio/wav", ".flac": "audio/flac", ".opus": "audio/ogg"}
SUFFIXES = tuple(CONTENT_TYPES)
"""How the name of a recording ends."""

_CONTAINERS: dict[str, Container] = {".wav": "wav", ".flac": "flac", ".opus": "ogg"}
_CODECS: dict[Encoding, str] = {
    "pcm16": "pcm_s16le",
    "ulaw": "pcm_mulaw",
    "alaw": "pcm_alaw",
    "flac": "flac",
    "opus": "opus",
}


@dataclass(frozen=True, slots=True)
class FileFormat:
    """What a finished recording is encoded as. Two channels: A on the left, B on the right; one: both mixed."""

    encoding: Encoding = "pcm16"
    channels: int = 1

    @property
    def suffix(self) -> str:
        """The ending of its file's name."""
        return f".{self.encoding}" if self.encoding in ("flac", "opus") else ".wav"

    @property
    def label(self) -> str:
        """Its name on the command line, such as `mono-pcm16` or `stereo-ulaw`."""
        return f"{'stereo' if self.channels == 2 else 'mono'}-{self.encoding}"

    @property
    def container(self) -> Container:
        """What the samples are in."""
        return _CONTAINERS[self.suffix]

    @property
    def codec(self) -> str:
        """The encoding as FFmpeg names it, for the manifest."""
        return _CODECS[self.encoding]

    @classmethod
    def of_label(cls, label: str) -> FileFormat:
        """The format that has this `label`. Raises ValueError when none has."""
        for one in (cls(encoding, channels) for encoding in ENCODINGS for channels in (1, 2)):
            if one.label == label:
                return one
        raise ValueError(f"{label!r} is no format of recordings")

    @classmethod
    def named(cls, file_name: str, encoding: str, channels: int) -> FileFormat:
        """The format of the file of this name, whose tags say `encoding`. The name counts where they differ.

        Raises ValueError when it is not the name of a recording.
        """
        suffix = split_name(file_name)[1]
        fitting = [one for one in ENCODINGS if cls(one).suffix == suffix]
        return cls(next((one for one in fitting if one == encoding), fitting[0]), channels)


def suffix_of(container: Container) -> str:
    """How the name of a file ends that is such a container."""
    return next(suffix for suffix, one in _CONTAINERS.items() if one == container)


def split_name(file_name: str) -> tuple[str, str]:
    """The name of a recording without its ending, and that ending. Raises ValueError when it is none of `SUFFIXES`."""
    for suffix in SUFFIXES:
        if file_name.endswith(suffix):
            return file_name.removesuffix(suffix), suffix
    raise ValueError(f"the name of a recording ends in {', '.join(SUFFIXES)}, which {file_name!r} does not")
