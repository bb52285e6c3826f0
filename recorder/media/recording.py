"""One recording in progress: two taps in, one file out, redacted before anything else sees the samples.

The newest samples are held back (in the taps), so that a redaction can still reach back by its guard interval. The file
holds the timeline: position 0 is the origin, and whatever could not be kept is silence of the right length, listed as a
gap. What is ready for the file goes to the spool, where it waits for the disk: when storage fails the call goes on.

Positions are the call's unless they are said to be the file's. The two are apart only where redacted stretches are left
out of the file (mode pause); `in_file` leads from one to the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from recorder.byte_store import PLAIN, Storage
from recorder.file_format import FileFormat
from recorder.media.cuts import Cuts, Join
from recorder.media.dtmf import DigitRemoval
from recorder.media.gaps import Gap, GapLeg, Gaps, Total, in_order, with_gaps
from recorder.media.losses import as_gaps
from recorder.media.marker import marker
from recorder.media.mixer import apart, mix
from recorder.media.part_file import PartFile, WrittenFile
from recorder.media.redaction import Mode, Redactions, Span
from recorder.media.source import Cause, LegName, Samples, SampleSource
from recorder.media.spool import Spool
from recorder.media.timeline import Block, Timeline
from recorder.tags import Tags

_log = structlog.get_logger()

# One round takes at most this much of a recording, so that one that catches up does not keep the others waiting.
ROUND_S = 60

Happened = tuple[Any, ...]
"""("gap", leg, cause, start, length), ("hold", position, held), ("tone", leg, start, stop) on the call's clock; on the
file's ("lost", cause, start, length) and ("gone", has, written), see Losses. Put into Gaps and Losses again, in order,
they make what the recording has made of them."""


class Recording:
    """The recording of one call.

    `pump` and `finish` belong to the writer thread, `spool.flush` to the disk thread, `commit` to the one that keeps
    the file; `replace`, `hold` and `redactions` may be used from any thread, and the counts read.

    Args:
        path: the final name; its ending is that of `file_format`.
        clock_rate_hz: samples a second, of the file and of all positions.
        a, b: the legs' sources; None for a leg without media. A source is given to a recording once.
        origin: position on the media clock of the file's first sample; None: the first that either source has.
        guard_before_samples: how far a redaction reaches back; so much is held back.
        guard_after_samples: how far a redaction reaches past its end.
        remove_digits: whether the tones of keys (DTMF) are taken out.
        redaction_mode: what stands where something is redacted: silence (mute), nothing (pause), a quiet tone (tone).
        tolerance_samples: held back beyond the guard: how far one leg may fall behind the other, or a redaction be
            late, without loss. Default: 100 ms.
        file_format: of the finished file, and whether both legs are mixed or have a channel each, A on the left.
        tags: what the file says of itself.
        storage: how files are laid out on the disk.
        journal: says, as one line of JSON, what is new of the recording since it was last asked (True: all that there
            is to say), None for nothing. It is written down beside the file, for the case that the process dies. It
            takes its news from `happened`. Called on the writer thread.
    """

    def __init__(
        self,
        path: Path,
        clock_rate_hz: int,
        *,
        a: SampleSource | None = None,
        b: SampleSource | None = None,
        origin: int | None = None,
        guard_before_samples: int = 0,
        guard_after_samples: int = 0,
        redaction_mode: Mode = "mute",
        remove_digits: bool = False,
        tolerance_samples: int | None = None,
        file_format: FileFormat = FileFormat(),  # noqa: B008 - immutable
        tags: Tags = Tags(),  # noqa: B008 - immutable
        storage: Storage = PLAIN,
        journal: Callable[[Recording, bool], str | None] | None = None,
    ) -> None:
        self.path = path
        self.clock_rate_hz = clock_rate_hz
        self.redactions = Redactions(guard_before_samples, guard_after_samples)
        self.spool = Spool(
            path,
            lambda: PartFile.create(path, clock_rate_hz, file_format, tags=tags, storage=storage),
            lambda: PartFile.reopen(path, clock_rate_hz, file_format, tags=tags, storage=storage),
        )
        self._journal = journal
        self.happened: deque[Happened] = deque()
        if journal is not None:
            self.spool.on_loss = self.happened.append
        self.escaped_samples = 0
        self.failure: BaseException | None = None
        self.finished = False
        self._mode = redaction_mode
        self._cuts = Cuts()
        self._timeline = Timeline(a, b, origin=origin, block_samples=clock_rate_hz)
        tolerance = clock_rate_hz // 10 if tolerance_samples is None else tolerance_samples
        self._format = file_format
        self._digits = DigitRemoval(clock_rate_hz, self._note_tone) if remove_digits else None
        self._hold_back = max(guard_before_samples, self._look_ahead) + tolerance
        self._gaps = Gaps(clock_rate_hz, None if journal is None else self.happened.append)
        self._handled = 0  # up to here in the file, samples are in the spool or counted as lost
        self._length = 0

    @property
    def origin(self) -> int | None:
        """Position on the media clock of the file's first sample; None as long as it is not decided."""
        return self._timeline.origin

    @property
    def samples(self) -> int:
        """Length of the recording so far, in samples, silence for what was lost included and whatever was left out."""
        if self.finished:
            return self._length
        return self._handled

    @property
    def duration_s(self) -> float:
        """`samples` in seconds."""
        return self.samples / self.clock_rate_hz

    @property
    def dropped_samples(self) -> int:
        """Samples that full rings lost, both legs."""
        return self._timeline.dropped_samples

    @property
    def late_samples(self) -> int:
        """Samples with sound that came too late for their position, and are lost."""
        return self._timeline.late_samples

    @property
    def storage_errors(self) -> int:
        """How often the disk has refused something."""
        return self.spool.errors

    @property
    def lost_samples(self) -> int:
        """Samples of the file, both legs, that could not be kept."""
        return self.spool.lost_samples

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Where there is silence because nothing was heard or kept, in order; of each leg the first `gaps.LISTED`."""
        return in_order([*self._gaps.listed, *self._file_gaps()])

    @property
    def gap_totals(self) -> dict[tuple[GapLeg, Cause], Total]:
        """All gaps, summed up; complete after `finish`."""
        return with_gaps(self._gaps.totals, self._file_gaps())

    @property
    def removed_digits(self) -> list[tuple[LegName, int, int]]:
        """(leg, start, stop) of what was silenced because a key was pressed, in samples from the start."""
        origin = self._timeline.origin
        if origin is None or self._digits is None:
            return []
        end = self._length if self.finished else self._handled
        clipped = (
            (leg, max(start - origin, 0), min(stop - origin, end)) for leg, start, stop in self._digits.stretches()
        )
        return [stretch for stretch in clipped if stretch[1] < stretch[2]]

    @property
    def joins(self) -> tuple[Join, ...]:
        """Where a redacted stretch was left out of the file."""
        return self._cuts.joins

    def in_file(self, position: int) -> int:
        """Where in the file a sample of the recording stands; one that was left out is at its join."""
        return self._cuts.in_file(position)

    def spans(self) -> list[Span]:
        """What was redacted, in samples from the start. After `finish` every span has an end within the recording."""
        origin = self._timeline.origin
        if origin is None:
            return []
        spans = []
        for span in self.redactions.spans():
            start = max(span.start - origin, 0)
            end = None if span.end is None else span.end - origin
            if self.finished:
                end = self._length if end is None else min(end, self._length)
            if end is None or start < end:
                spans.append(replace(span, start=start, end=end))
        return spans

    def replace(self, leg: LegName, source: SampleSource | None) -> None:
        """Give a leg another source, or none. What the old one still holds is read at the next `pump`."""
        self._timeline.replace(leg, source)

    def hold(self, position: int, held: bool) -> None:
        """From this position of the media clock on the call is on hold, or no longer: then a leg may be silent."""
        self._gaps.hold(max(0, position - (self.origin or position)), held)

    def pump(self) -> int:
        """Read, redact and mix what is due, and queue it for the disk.

        Returns:
            How many samples the recording has grown by.
        """
        timeline = self._timeline
        before = self.samples
        # The leader is looked at before the legs are read, see Timeline.leader.
        limit = timeline.leader() - self._hold_back
        if timeline.origin is not None:
            limit = min(limit, timeline.position + ROUND_S * self.clock_rate_hz)
        self._keep_journal()  # before what it tells of: no silence reaches the file unexplained
        self._advance(limit)
        self._keep_journal()
        return self.samples - before

    def history(self) -> list[Happened]:
        """What `happened` has told so far, made anew; of very many gaps the first only."""
        ends: list[tuple[int, bool]] = []
        for start, stop in self._gaps.holds:
            ends += [(start, True)] if stop is None else [(start, True), (stop, False)]
        return [
            *(("hold", position, held) for position, held in ends),
            *(("gap", gap.leg, gap.cause, gap.start, gap.length) for gap in self._gaps.listed),
            *(("tone", leg, start, stop) for leg, start, stop in self.removed_digits),
            *(("lost", lost.cause, lost.start, lost.length) for lost in self.spool.losses),
        ]

    def _note_tone(self, leg: LegName, start: int, stop: int) -> None:
        if self._journal is not None:
            origin = self.origin or 0
            self.happened.append(("tone", leg, start - origin, stop - origin))

    def _keep_journal(self) -> None:
        if self._journal is None or self.origin is None:
            return
        whole, self.spool.journal_lost = self.spool.journal_lost, False
        try:
            if (line := self._journal(self, whole)) is not None:
                self.spool.note(line.encode())
        except Exception:  # noqa: BLE001 - the recording itself goes on
            _log.exception("journal_not_made", path=str(self.path))

    def finish(self, end_position: int | None = None) -> None:
        """End the recording: it covers [origin, end_position) exactly. Idempotent.

        Args:
            end_position: of the media clock; None: as far as the leg that is ahead has come. What the sources did not
                reach is silence, what is beyond is cut off.
        """
        if self.finished:
            return
        timeline = self._timeline
        if self.failure is None:
            leader = timeline.leader()
            end = leader if end_position is None else end_position
            timeline.settle(end)
        else:
            end = timeline.position if end_position is None else end_position
        origin = end if timeline.origin is None else timeline.origin
        end = max(end, origin)
        self.redactions.close(end)
        self._keep_journal()
        if self.failure is None:
            self._advance(end)
        else:
            left = end - origin - self._handled
            self.spool.lose("failure", self.in_file(self._handled), left)
        self._length = end - origin
        if timeline.origin is not None and self.failure is None:
            self._note_gaps(last=True)
        self._gaps.close(self._length)
        self.finished = True
        self._keep_journal()
        self._journal = None  # whoever tells it holds us, and the rings of both legs
        self.spool.end(self.in_file(self._length))

    def fail(self, error: BaseException) -> None:
        """Give up on the sound from here on. `finish` still brings the file to its length."""
        self.failure = error

    def commit(self) -> WrittenFile:
        """Make the stored file durable under its final name: slow, not for the writer thread. May be called again.

        Raises:
            StorageError: the disk refused.
        """
        return self.spool.commit()

    def _advance(self, limit: int) -> None:
        timeline = self._timeline
        for block in self._due(limit):
            self._write(block)
        if timeline.origin is not None:
            self._note_gaps(last=False)
        self._erase_escaped()

    @property
    def _look_ahead(self) -> int:
        return 0 if self._digits is None else self._digits.look_ahead_samples

    def _due(self, limit: int) -> Iterator[Block]:
        """What is to be written up to position `limit`, without the tones of keys where they are not wanted."""
        if self._digits is None:
            yield from self._timeline.blocks(limit)
            return
        for block in self._timeline.blocks(limit + self._look_ahead):
            self._digits.add(block)
        for event in self._timeline.take_events():
            self._digits.add_event(*event)
        yield from self._digits.due(limit)

    def _write(self, block: Block) -> None:
        """Redact, mix and store one block."""
        origin, position = self._timeline.origin, block.position
        assert origin is not None
        silent = self.redactions.apply(position, block.a, block.b)
        if silent and self._mode == "tone":
            self._mark(block, silent)
        joined = mix(block.a, block.b) if self._format.channels == 1 else apart(block.a, block.b)
        if silent and self._mode == "pause":
            self._store_but(position - origin, joined, [(a - position, b - position) for a, b in silent])
        else:
            self._store(position - origin, joined)

    def _mark(self, block: Block, silent: list[tuple[int, int]]) -> None:
        """Put the marker in the place of what is redacted."""
        spans = self.redactions.spans()
        for start, stop in silent:
            around = next(span for span in spans if span.start <= start and (span.end is None or stop <= span.end))
            samples = marker(start, stop, max(around.start, self._timeline.origin or 0), around.end, self.clock_rate_hz)
            # Mixed, in one leg only: the mix is as loud as the marker is.
            for leg in (block.a, block.b)[: self._format.channels]:
                leg[start - block.position : stop - block.position] = samples

    def _store_but(self, at: int, samples: Samples, left_out: list[tuple[int, int]]) -> None:
        """Store what is not within `left_out`, which is in order and counts from the first of `samples`."""
        kept = 0
        for start, stop in left_out:
            if kept < start:
                self._store(at + kept, samples[kept:start])
            self._cuts.leave_out(at + start, at + stop)
            self._handled = at + stop
            kept = stop
        if kept < len(samples):
            self._store(at + kept, samples[kept:])

    def _store(self, at: int, samples: Samples) -> None:
        """Write a block: a sample a row, or, of two channels, a row of two."""
        self._handled = at + len(samples)
        self.spool.put(self.in_file(at), samples)

    def _erase_escaped(self) -> None:
        """Erase what was written before a redaction reached back to it. See Redactions.take_escaped."""
        origin = self._timeline.origin
        escaped = self.redactions.take_escaped()
        if origin is None or not escaped:
            return
        for start, stop in escaped:
            if stop > origin:
                start = max(start, origin)
                self.spool.erase(self.in_file(start - origin), self.in_file(stop - origin))
                self.escaped_samples += stop - start
        _log.error("redaction_reached_back_to_the_disk", path=str(self.path), samples=self.escaped_samples)

    def _note_gaps(self, *, last: bool) -> None:
        origin = self._timeline.origin or 0
        for cause, leg, start, length in self._timeline.take_gaps(last):
            self._gaps.add(Gap(cause, leg, start - origin, length))

    def _file_gaps(self) -> list[Gap]:
        """What the disk has cost both legs."""
        return as_gaps(self.spool.losses, self._cuts, self._length if self.finished else None)
