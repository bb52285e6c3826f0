"""What a recording's file is to be like: `accounts[].format`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from recorder.file_format import Encoding, FileFormat
from recorder.settings_section import Section, number


class Format(Section):
    channels: Literal["mono", "stereo"] = "mono"
    encoding: Encoding = "pcm16"
    sample_rate_hz: Annotated[Literal[8000, 16000, "auto"] | None, BeforeValidator(number)] = None

    @property
    def file_format(self) -> FileFormat:
        """The same as what writes and reads files has it."""
        return FileFormat(self.encoding, 2 if self.channels == "stereo" else 1)
