"""`recording.encryption`: the keys that recordings are sealed with."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from recorder.settings_section import FilePath, Section


class Encryption(Section):
    """Off without a key. `key` is one of its own, `id: base64`; it comes before those of `key_file`."""

    key_file: FilePath | None = None
    key: Annotated[str | None, Field(repr=False)] = None
