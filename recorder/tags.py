"""What a recording's file says of itself: in the INFO list of a WAV, in the Vorbis comments of FLAC and Ogg Opus.

    | what              | WAV  | Vorbis comment    | soundfile  |
    | the dialog's id   | INAM | TITLE             | `title`    |
    | where it begins   | ICRD | DATE              | `date`     | UTC, to the millisecond: the answer of the call
    | parties, encoding | ICMT | COMMENT           | `comment`  | `calling=5550100 called=100 encoding=ulaw`
    | who made it       | ISFT | ENCODER, SOFTWARE | `software` |

In the comment `%`, `=`, blanks and what is not printable are written as %XX, of their UTF-8 (RFC 3986, section 2.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from recorder import __version__

SOFTWARE = f"recorder {__version__}"
_MOST_BYTES = 250  # of one value; the whole stands in the manifest


@dataclass(frozen=True, slots=True)
class Tags:
    """The facts in a file. "" and None: not known.

    Args:
        start_ms: epoch milliseconds of the first sample.
        encoding: what the finished file is encoded as, one of `recorder.file_format.ENCODINGS`.
    """

    dialog_id: str = ""
    calling: str = ""
    called: str = ""
    start_ms: int | None = None
    encoding: str = ""

    def as_texts(self) -> dict[str, str]:
        """The texts to be written, by soundfile's names; none that is empty."""
        comment = {"calling": self.calling, "called": self.called, "encoding": self.encoding}
        texts = {
            "title": self.dialog_id,
            "date": "" if self.start_ms is None else _iso(self.start_ms),
            "comment": " ".join(f"{key}={_escaped(value)}" for key, value in comment.items() if value),
            "software": SOFTWARE,
        }
        return {name: text for name, text in texts.items() if text}

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> Tags:
        """Read back what `as_texts` made; whatever cannot be understood is not known."""
        words = (word.partition("=") for word in texts.get("comment", "").split(" "))
        comment = {key: unquote(value, errors="replace") for key, _, value in words}
        return cls(
            dialog_id=texts.get("title", ""),
            calling=comment.get("calling", ""),
            called=comment.get("called", ""),
            start_ms=_epoch_ms(texts.get("date", "")),
            encoding=comment.get("encoding", ""),
        )


def _escaped(value: str) -> str:
    """Escape `value`, cut after a character where it would be too long."""
    escaped, size = [], 0
    for character in value:
        plain = character.isprintable() and not character.isspace() and character not in "%="
        one = character if plain else quote(character, safe="", errors="replace")
        size += len(one.encode())
        if size > _MOST_BYTES:
            break
        escaped.append(one)
    return "".join(escaped)


def _iso(epoch_ms: int) -> str:
    seconds, ms = divmod(epoch_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03}Z"


def _epoch_ms(text: str) -> int | None:
    try:
        return round(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z").timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
