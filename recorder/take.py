"""One recording as its call sees it: a native tap a leg, what was silenced, and the manifest at the end.

`manifest` runs on the thread that keeps the file; everything else on the sip thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recorder import native
from recorder.byte_store import PLAIN, Storage
from recorder.calls.events import Side
from recorder.calls.recording_control import OpenStep
from recorder.diary import Diary
from recorder.facts import Facts
from recorder.file_format import FileFormat
from recorder.identifiers import RecordingName
from recorder.library.manifest import (
    AudioFormat,
    EarlierLegFacts,
    LegFacts,
    Legs,
    Manifest,
    NameParts,
    Parties,
    WrittenFile,
)
from recorder.media.recording import Recording
from recorder.sealed_store import is_sealed
from recorder.settings import Account, AccountRedaction, Settings
from recorder.tags import Tags

HOLD_S = 0.2  # how late a packet may come and still be in the recording
TOLERANCE_S = 0.02
NARROW_HZ, WIDE_HZ = 8000, 16000
WIDEBAND = frozenset({"g722", "opus"})


class Take:
    """The recording of one call, from its answer to its end.

    It may be made, and its taps attached, before the answer: they stay shut until `begin`.

    Args:
        name: its identity.
        settings: of the recorder.
        account: whose call it is; None: nobody's, so all that an account may set is at its default.
        parties: who began the call.
        storage: how its file is laid out.
    """

    def __init__(
        self,
        name: RecordingName,
        settings: Settings,
        account: Account | None = None,
        parties: Parties = Parties(),  # noqa: B008 - immutable
        storage: Storage = PLAIN,
    ) -> None:
        guards, redaction = settings.redaction, account.redaction if account is not None else AccountRedaction()
        before_ms = guards.guard_before_ms if redaction.guard_before_ms is None else redaction.guard_before_ms
        after_ms = guards.guard_after_ms if redaction.guard_after_ms is None else redaction.guard_after_ms
        wanted = account.format.sample_rate_hz if account is not None else None
        self.name = name
        self._format = account.format.file_format if account is not None else FileFormat()
        self.file_name = name.stem + self._format.suffix
        self.end_position: int | None = None
        self._account = account
        self._parties = parties
        self._storage = storage
        self._folder = settings.recording.folder
        self._guards_ms = before_ms, after_ms
        self._redaction_mode = redaction.mode
        self._remove_digits = account is not None and account.dtmf == "remove"
        self._ring_s = settings.media.ring_s
        self._follows_legs = wanted == "auto"  # in its rate
        self._recording: Recording | None = None
        self._set_rate(NARROW_HZ if wanted == "auto" else wanted or settings.media.clock_rate_hz)
        self._legs: dict[Side, LegFacts] = {}
        self._earlier: list[tuple[Side, int, LegFacts]] = []  # the place it had, until which sample, and who it was
        self._muted = False
        self._diary = Diary(redaction.mode)

    def _set_rate(self, rate: int) -> None:
        """Count `rate` samples a second from now on. Before the answer: the taps are new ones."""
        self._rate = rate
        self._guard_before, self._guard_after = (rate * guard_ms // 1000 for guard_ms in self._guards_ms)
        self._taps = {side: self._new_tap(side) for side in Side}

    @property
    def position(self) -> int:
        """Where the clock stands, in samples of this recording."""
        return native.media_clock(self._rate)

    @property
    def began(self) -> bool:
        """Whether the call has been answered."""
        return self._recording is not None

    @property
    def recording(self) -> Recording:
        """What the writer writes; there from `begin` on."""
        assert self._recording is not None
        return self._recording

    def begin(self, origin: int, steps: Iterable[OpenStep]) -> Recording:
        """The call is answered: the file starts at position `origin`, now. `steps` are muted already."""
        tags = Tags(
            dialog_id=self.name.dialog_id,
            calling=self._parties.calling or "",
            called=self._parties.called or "",
            start_ms=time.time_ns() // 1_000_000,
        )
        self._recording = Recording(
            self._folder / self.file_name,
            self._rate,
            a=self._taps[Side.A],
            b=self._taps[Side.B],
            origin=origin,
            guard_before_samples=self._guard_before,
            guard_after_samples=self._guard_after,
            redaction_mode=self._redaction_mode,
            remove_digits=self._remove_digits,
            tolerance_samples=round(self._rate * TOLERANCE_S),
            file_format=self._format,
            tags=tags,
            storage=self._storage,
            journal=self._diary.line,
        )
        steps = list(steps)
        self._muted = bool(steps)
        for step in steps:
            self._recording.redactions.begin(origin, step.name, step.by, step.who)
        for tap in self._taps.values():
            tap.start(origin)
            if not steps:
                tap.open_gate()
        return self._recording

    def hold(self, held: bool) -> None:
        """From now on the call is on hold, or no longer: then a leg may be silent."""
        if self.began:
            self.recording.hold(self.position, held)

    def attach(self, calls: Mapping[Side, int]) -> None:
        """Listen to the packets of all legs that have media. Again when other codecs have been agreed on."""
        if self._follows_legs and not self.began:
            rate = WIDE_HZ if any(map(_is_wideband, calls.values())) else NARROW_HZ
            if rate != self._rate:
                self._set_rate(rate)
        for side, call_id in calls.items():
            self._taps[side].attach(call_id)

    def change_party(self, side: Side, position: int, leg: LegFacts) -> None:
        """Somebody else takes a leg's place at `position`, now: `leg` is what there is to say of who leaves."""
        if not self.began:
            return
        origin = self.recording.origin or position
        self._earlier.append((side, max(0, position - origin), self._with_losses(side, leg)))
        # A tap of its own: the old party's packets may still be on their way.
        self._exchange(side, self._new_tap(side))

    def _with_losses(self, side: Side, leg: LegFacts) -> LegFacts:
        """Say of who is there now how many packets are missing in the recording."""
        return leg.model_copy(update={"rx_lost": self._taps[side].lost})

    def _new_tap(self, side: Side) -> native.RtpTap:
        """Make a tap, shut; before the answer it keeps nothing."""
        tap = native.RtpTap(side.value, self._rate, round(self._rate * self._ring_s), round(self._rate * HOLD_S))
        tap.close_gate()
        if not self.began:
            tap.wait()
        return tap

    def _exchange(self, side: Side, tap: native.RtpTap) -> None:
        """Let `tap` take the place of a leg's tap; it is as silent as the old one was to be."""
        old, self._taps[side] = self._taps[side], tap
        if self.began and not self._muted:
            tap.open_gate(self._guard_after if old.gated else 0)
        old.detach()
        if self.began:
            self.recording.replace(side.value, tap)

    def mute(self, position: int, step: OpenStep) -> None:
        """Silence both legs at `position`, now. On return no sample from here on gets past the taps."""
        self._muted = True
        for tap in self._taps.values():
            tap.close_gate()
        if self.began:
            self.recording.redactions.begin(position, step.name, step.by, step.who)

    def unmute(self, position: int, step: OpenStep, *, last: bool) -> None:
        """End a step at `position`, now; the gates open, after the guard, when it was the `last` one."""
        if not self.began:
            return
        if last:
            self._muted = False
            opened = [tap.open_gate(self._guard_after) for tap in self._taps.values()]
            position = max(position, *(open_from - self._guard_after for open_from in opened))
        self.recording.redactions.end(position, step.name, step.by)

    def stop(self, position: int, legs: Mapping[Side, LegFacts]) -> None:
        """The call ends at `position`: nothing later is recorded. `legs` is what the manifest says of each leg."""
        self._legs = {side: self._with_losses(side, leg) for side, leg in legs.items()}
        self.end_position = position
        for tap in self._taps.values():
            tap.detach()

    def manifest(self, written: WrittenFile, cdr: Mapping[str, Any]) -> Manifest:
        """Describe the finished file."""
        recording, rate = self.recording, self.recording.clock_rate_hz
        facts = Facts(recording.in_file, rate)
        return Manifest(
            name=NameParts.of(self.name),
            file_name=self.file_name,
            format=AudioFormat.of(self._format, rate),
            duration_s=written.samples / rate,
            call_duration_s=recording.duration_s,
            samples=written.samples,
            bytes=written.bytes,
            sha256=written.sha256,
            encrypted=is_sealed(written.path),
            started_ms=cdr["time"],
            answered_ms=cdr["answered_ms"],
            ended_ms=cdr["ended_ms"],
            parties=Parties(calling=cdr["calling"], called=cdr["called"]),
            legs=self._legs_of(self._legs),
            gaps=facts.gaps(recording.gaps),
            gap_totals=facts.totals(recording.gap_totals),
            redaction_mode=self._redaction_mode,
            redactions=facts.redactions(recording.spans()),
            joins=facts.joins(recording.joins),
            tones_removed=facts.tones(recording.removed_digits),
            dropped_samples=recording.dropped_samples,
            cdr=dict(cdr),
        )

    def tell(self, cdr: Mapping[str, Any], legs: Mapping[Side, LegFacts] | None = None) -> None:
        """Note of the call, should the process die, its record as it is now, and who is there; None: as of the end."""
        if not self.began:
            return
        # How many packets there were is known at the end only.
        uncounted = {"rx_packets": None, "rx_lost": None}
        told = self._legs if legs is None else {side: leg.model_copy(update=uncounted) for side, leg in legs.items()}
        self._diary.tell(cdr, self._legs_of(told))

    def _legs_of(self, legs: Mapping[Side, LegFacts]) -> Legs:
        return Legs(a=legs.get(Side.A), b=legs.get(Side.B), earlier=self._earlier_legs())

    def _earlier_legs(self) -> tuple[EarlierLegFacts, ...]:
        in_file, rate = self.recording.in_file, self._rate
        return tuple(
            EarlierLegFacts(side=side.value, until_s=in_file(until) / rate, **leg.model_dump())
            for side, until, leg in self._earlier
        )


def _is_wideband(call_id: int) -> bool:
    stream = native.stream_statistics(call_id)
    return stream is not None and stream.codec.lower() in WIDEBAND


def leg_facts(streams: Sequence[native.StreamStatistics], sip_call_id: str | None) -> LegFacts:
    """What the manifest says of a leg: its last codec and address, the packets of all its streams."""
    if not streams:
        return LegFacts(sip_call_id=sip_call_id)
    return LegFacts(
        sip_call_id=sip_call_id,
        codec=streams[-1].codec,
        remote_media=streams[-1].remote_rtp_address,
        rx_packets=sum(stream.rx_packets for stream in streams),
        rx_lost=sum(stream.rx_lost for stream in streams),
    )
