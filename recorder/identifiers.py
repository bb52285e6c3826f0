"""Identifiers that become file names and index keys, and the strict patterns they must match first.

Whatever comes off the wire is untrusted: it is matched here, or it is replaced by a generated value.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

# No separator of ours (~), no path separator, no leading dot: such a name can neither escape a folder nor hide in it.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,63}", re.ASCII)
_DIALOG_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
# One spelling a number: what `parse` takes apart, `stem` puts together again, character for character.
_TIMESTAMP = re.compile(r"0|[1-9][0-9]{0,14}", re.ASCII)


def is_valid_name(value: str) -> bool:
    """Tell whether `value` may serve as a groupId or an accountId."""
    return _NAME.fullmatch(value) is not None


def is_valid_dialog_id(value: str) -> bool:
    """Tell whether `value` may serve as a dialogId."""
    return _DIALOG_ID.fullmatch(value) is not None


def new_dialog_id() -> str:
    """Make a dialogId: 32 upper-case hexadecimal digits, 128 random bits."""
    return secrets.token_hex(16).upper()


@dataclass(frozen=True, slots=True)
class RecordingName:
    """The identity of a recording and the name of its file.

    Args:
        group_id, account_id: match `is_valid_name`.
        dialog_timestamp_ms: epoch milliseconds at which the INVITE came in; at most 15 digits (year 33658).
        dialog_id: matches `is_valid_dialog_id`.

    Raises:
        ValueError: a part does not match its pattern.
    """

    group_id: str
    account_id: str
    dialog_timestamp_ms: int
    dialog_id: str

    def __post_init__(self) -> None:
        for label, value, valid in (
            ("group_id", self.group_id, is_valid_name(self.group_id)),
            ("account_id", self.account_id, is_valid_name(self.account_id)),
            ("dialog_timestamp_ms", self.dialog_timestamp_ms, 0 <= self.dialog_timestamp_ms < 10**15),
            ("dialog_id", self.dialog_id, is_valid_dialog_id(self.dialog_id)),
        ):
            if not valid:
                raise ValueError(f"{label} {value!r} is not a valid part of a recording's name")

    @property
    def stem(self) -> str:
        """The file name without its ending: `{groupId}~{accountId}~{dialogTimestamp}~{dialogId}`."""
        return f"{self.group_id}~{self.account_id}~{self.dialog_timestamp_ms}~{self.dialog_id}"

    @classmethod
    def parse(cls, stem: str) -> RecordingName:
        """Read a file name back, without its ending. Raises ValueError when it is not one of ours."""
        parts = stem.split("~")
        if len(parts) != 4 or not _TIMESTAMP.fullmatch(parts[2]):
            raise ValueError(f"{stem!r} is not the name of a recording")
        return cls(parts[0], parts[1], int(parts[2]), parts[3])
