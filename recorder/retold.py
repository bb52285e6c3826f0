"""What the manifest of a recording says whose process died: what its file proves, and what its journal tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recorder.facts import Facts
from recorder.library import journal
from recorder.library.journal import Happening
from recorder.library.manifest import Manifest, Parties, RedactionFacts
from recorder.library.recovery import PART_SUFFIX
from recorder.media.cuts import Cuts
from recorder.media.gaps import Gap, Gaps, in_order, with_gaps
from recorder.media.losses import Losses, as_gaps
from recorder.media.source import LegName


def completed(manifest: Manifest, folder: Path) -> Manifest:
    """Complete a manifest that was made of a file in `folder` with what the journal says, if there is one.

    Nothing is said beyond the end of the file; its last moments may lack gaps that the journal did not live to tell.
    """
    told = journal.read(folder / (manifest.file_name + PART_SUFFIX))
    if told is None:
        return manifest
    rate = manifest.format.sample_rate_hz
    cuts = Cuts()
    joins = tuple(join for join in told.joins if join.sample <= manifest.samples)
    left_out_at_end = any(join.sample == manifest.samples for join in joins)
    for join in joins:
        cuts.leave_out(round(join.call_s * rate), round((join.call_s + join.left_out_s) * rate))
    length = cuts.call_position(manifest.samples)
    facts = Facts(cuts.in_file, rate)
    gaps, losses, tones = _again(told.happened, rate)
    gaps.close(length)
    of_file = as_gaps(losses.listed, cuts, length)
    changes: dict[str, object] = {
        "call_duration_s": length / rate,
        "redaction_mode": told.redaction_mode,
        # Those that the process lived long enough for.
        "redactions": tuple(
            _within(fact, manifest)
            for fact in told.redactions
            if fact.start_sample < manifest.samples or (left_out_at_end and fact.start_sample == manifest.samples)
        ),
        "joins": joins,
        "gaps": facts.gaps(in_order([*gaps.listed, *of_file])),
        "gap_totals": facts.totals(with_gaps(gaps.totals, of_file)),
        "tones_removed": facts.tones(_united(tones, length)),
    }
    if told.legs is not None:
        changes["legs"] = told.legs
    if told.cdr is not None:
        changes["cdr"] = _completed_cdr(manifest.cdr, told.cdr)
        changes["parties"] = Parties(
            calling=manifest.parties.calling or told.cdr.get("calling"),
            called=manifest.parties.called or told.cdr.get("called"),
        )
    return manifest.model_copy(update=changes)


def completed_cdr(cdr: dict[str, Any], part: Path) -> dict[str, Any]:
    """Complete a CDR that was made of `part` with what its journal says."""
    told = journal.read(part)
    return cdr if told is None or told.cdr is None else _completed_cdr(cdr, told.cdr)


def _completed_cdr(made: dict[str, Any] | None, told: dict[str, Any]) -> dict[str, Any]:
    if made is None or (made["id"], made["time"]) != (told.get("id"), told.get("time")):
        return made or {}
    details = told.get("details")
    known = {**made, **told, "recorded": True, "file": made["file"]}
    known["details"] = {**(details if isinstance(details, dict) else {}), "recovered": True}
    if told.get("reason") == made["reason"]:  # its end is not known
        known |= {"ended_ms": made["ended_ms"], "duration_s": made["duration_s"]}
        known["details"].pop("end_s", None)
    return known


def _again(happened: list[Happening], rate: int) -> tuple[Gaps, Losses, list[tuple[LegName, int, int]]]:
    gaps, losses, tones = Gaps(rate), Losses(), []
    for one in happened:
        match one:
            case ("gap", leg, cause, start, samples):
                gaps.add(Gap(cause, leg, start, samples))  # type: ignore[arg-type]
            case ("hold", position, held):
                gaps.hold(position, held)
            case ("tone", leg, start, stop):
                tones.append((leg, start, stop))
            case ("lost", cause, start, samples):
                last = losses.listed[-1] if losses.listed else None
                after = start if last is None else max(start, last.start + last.length)
                if after < start + samples:  # otherwise it was told twice
                    losses.add(cause, after, start + samples - after)  # type: ignore[arg-type]
            case ("gone", has, written):
                losses.gone(has, written)
    return gaps, losses, tones


def _united(tones: list[tuple[LegName, int, int]], length: int) -> list[tuple[LegName, int, int]]:
    """Each stretch once, within the recording, in order."""
    united: list[tuple[LegName, int, int]] = []
    for leg, start, stop in sorted(tones):
        start, stop = max(0, start), min(stop, length)
        if start >= stop:
            continue
        if united and united[-1][0] == leg and start <= united[-1][2]:
            united[-1] = (leg, united[-1][1], max(united[-1][2], stop))
        else:
            united.append((leg, start, stop))
    return sorted(united, key=lambda stretch: stretch[1:])


def _within(fact: RedactionFacts, manifest: Manifest) -> RedactionFacts:
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
