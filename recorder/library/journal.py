"""What was redacted, lost and left out so far of a recording that is being written, for the case that its process dies.

Beside `<name>.part` stands `<name>.part.journal`, once there is anything to say: a line of JSON with all of it each
time that something has changed. It says no more than the manifest will, and goes when the recording is finished.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from recorder.library.manifest import GapFacts, JoinFacts, Manifest, RedactionFacts

JOURNAL_SUFFIX = ".journal"

Fact = TypeVar("Fact", RedactionFacts, GapFacts)


class SoFar(BaseModel):
    """What a manifest would say now. A redaction that is open reaches past any end."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    redaction_mode: Literal["mute", "pause", "tone"]
    redactions: tuple[RedactionFacts, ...] = ()
    joins: tuple[JoinFacts, ...] = ()
    gaps: tuple[GapFacts, ...] = ()


def journal_path(part: Path) -> Path:
    """Where the journal of an unfinished recording is."""
    return part.with_name(part.name + JOURNAL_SUFFIX)


def remember(part: Path, manifest: Manifest) -> Manifest:
    """Complete the manifest that was made of `part` with what its journal says, if there is one that can be read."""
    so_far = _last(journal_path(part))
    if so_far is None:
        return manifest
    return manifest.model_copy(
        update={
            "redaction_mode": so_far.redaction_mode,
            "redactions": tuple(_within(fact, manifest) for fact in so_far.redactions if _begins(fact, manifest)),
            "joins": tuple(join for join in so_far.joins if join.sample <= manifest.samples),
            "gaps": tuple(_within(fact, manifest) for fact in so_far.gaps if _begins(fact, manifest)),
        }
    )


def remove(part: Path) -> None:
    """Remove the journal of a recording that is finished."""
    with suppress(OSError):
        journal_path(part).unlink()


def remove_orphans(folder: Path) -> None:
    """Remove the journals of recordings that are finished; for a start."""
    for path in folder.glob("*" + JOURNAL_SUFFIX):
        if not path.with_name(path.name.removesuffix(JOURNAL_SUFFIX)).exists():
            with suppress(OSError):
                path.unlink()


def _last(path: Path) -> SoFar | None:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return None
    for line in reversed(lines[:-1]):  # what has no line feed was being written
        with suppress(ValidationError):
            return SoFar.model_validate_json(line)
    return None


def _begins(fact: RedactionFacts | GapFacts, manifest: Manifest) -> bool:
    """Whether the process lived long enough for it to be in the file."""
    return fact.start_sample < manifest.samples or (fact.samples == 0 and fact.start_sample <= manifest.samples)


def _within(fact: Fact, manifest: Manifest) -> Fact:
    """The part of it that is in the file."""
    beyond = fact.start_sample + fact.samples - manifest.samples
    if beyond <= 0:
        return fact
    rate = manifest.format.sample_rate_hz
    samples = fact.samples - beyond
    changes: dict[str, object] = {"samples": samples, "duration_s": samples / rate}
    if fact.call_duration_s is not None:
        changes["call_duration_s"] = max(0.0, fact.call_duration_s - beyond / rate)
    return fact.model_copy(update=changes)
