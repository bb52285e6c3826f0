"""What is known of a recording that is being written, for the case that its process dies.

Beside `<name>.part` stands `<name>.part.journal`, to which a line of JSON is added for what is new: each thing is said
once, so that it grows with the call and no faster. It says no more than the manifest will, and goes when that is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recorder.library.manifest import JoinFacts, Legs, RedactionFacts, manifest_path

JOURNAL_SUFFIX = ".journal"

Fact = TypeVar("Fact", RedactionFacts, JoinFacts)
Leg = Literal["a", "b", "both"]
Place = Annotated[int, Field(ge=0)]
Happening = (
    tuple[Literal["gap"], Leg, str, int, int]
    | tuple[Literal["hold"], int, bool]
    | tuple[Literal["tone"], Literal["a", "b"], int, int]
    | tuple[Literal["lost"], str, Place, Place]
    | tuple[Literal["gone"], Place, Place]
)
"""What has happened to a recording, in samples of the call's clock but for the last two, which are of the file:

gap: whose sound, cause, start, length; hold: from where, whether it is; tone: whose, start, stop; lost (not kept):
cause, start, length; gone (with the disk): from where, up to where.
"""


class Line(BaseModel):
    """What is new. `redactions` and `joins` replace those from number `redactions_from`, or `joins_from`, on.

    A redaction that is open reaches past any end. `whole`: what was said before is void.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    number: Place
    whole: bool = False
    redaction_mode: Literal["mute", "pause", "tone"] | None = None
    redactions_from: Place = 0
    redactions: tuple[RedactionFacts, ...] | None = None
    joins_from: Place = 0
    joins: tuple[JoinFacts, ...] | None = None
    happened: tuple[Happening, ...] = ()
    legs: Legs | None = None
    cdr: dict[str, Any] | None = None


@dataclass(slots=True)
class Journal:
    """All that the lines of a journal say together."""

    redaction_mode: Literal["mute", "pause", "tone"] | None = None
    redactions: list[RedactionFacts] = field(default_factory=list)
    joins: list[JoinFacts] = field(default_factory=list)
    happened: list[Happening] = field(default_factory=list)
    legs: Legs | None = None
    cdr: dict[str, Any] | None = None

    def add(self, line: Line) -> None:
        """Take in what the next line says."""
        if line.whole:
            self.redactions, self.joins, self.happened = [], [], []
        self.redaction_mode = line.redaction_mode or self.redaction_mode
        self.redactions = _replaced(self.redactions, line.redactions_from, line.redactions)
        self.joins = _replaced(self.joins, line.joins_from, line.joins)
        self.happened += line.happened
        self.legs = line.legs or self.legs
        self.cdr = line.cdr or self.cdr


def read(part: Path) -> Journal | None:
    """What the journal beside `part` says; None when there is none, or not a line that can be read."""
    try:
        lines = journal_path(part).read_bytes().split(b"\n")
    except OSError:
        return None
    journal, following = None, 0
    for text in lines[:-1]:  # what has no line feed was being written
        with suppress(ValidationError):
            line = Line.model_validate_json(text)
            if line.number < following:
                continue  # was written twice: the disk had refused the end of it
            journal, following = journal or Journal(), line.number + 1
            journal.add(line)
    return journal


def journal_path(part: Path) -> Path:
    """Where the journal of an unfinished recording is."""
    return part.with_name(part.name + JOURNAL_SUFFIX)


def remove(part: Path) -> None:
    """Remove the journal of a recording that is finished."""
    with suppress(OSError):
        journal_path(part).unlink()


def remove_orphans(folder: Path) -> None:
    """Remove the journals of recordings that are finished, manifest included; for a start."""
    for path in folder.glob("*" + JOURNAL_SUFFIX):
        part = path.with_name(path.name.removesuffix(JOURNAL_SUFFIX))
        final = part.with_suffix("")
        if not part.exists() and (manifest_path(final).exists() or not final.exists()):
            with suppress(OSError):
                path.unlink()


def _replaced(facts: list[Fact], start: int, new: Sequence[Fact] | None) -> list[Fact]:
    return facts if new is None else facts[:start] + list(new)
