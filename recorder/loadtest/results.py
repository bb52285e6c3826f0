"""What a load test found: one tree of plain values, printed as a table and written as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from recorder.loadtest.audit import Audit
from recorder.loadtest.floor import Floor
from recorder.loadtest.measure import Sample, Sampler, Stall, peak
from recorder.loadtest.options import Options, Phase
from recorder.loadtest.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Spread:
    """How values are spread; None everywhere for no values."""

    least: float | None = None
    median: float | None = None
    p95: float | None = None
    most: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of `values`."""
        if not values:
            return cls()
        return cls(*(float(x) for x in np.percentile(values, [0, 50, 95, 100])))


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """One phase: its calls and its recordings. Times in seconds; `cpu_share` in cores while all calls were up.

    `finish_cpu_s` is the CPU from the first hang-up until the last recording is on the disk, `finish_s` later, in which
    there was still `finish_talk_s` of talk.
    """

    phase: Phase
    good: int
    failed_calls: int
    retransmissions: int
    sipp_late: int
    length_error_s: Spread
    offset_s: Spread
    start_s: Spread
    durable_s: Spread
    gap_s: float
    gaps: int
    slips: int
    disturbances: int
    drift_s: Spread
    clipped_s: Spread
    bursts: int
    muted_calls: int
    silent_s: float
    manifest_gaps: int
    verify_s: float
    cpu_share: float | None
    cpu_s: float | None
    talk_s: float
    window_s: float
    finish_cpu_s: float | None
    finish_s: float
    finish_talk_s: float
    last_hang_up: float
    rtp: dict[str, int]

    @classmethod
    def of(cls, traffic: Traffic, audit: Audit, verify_s: float, sampler: Sampler | None) -> PhaseResult:
        """Sum up one phase."""
        findings = audit.findings
        verdicts = [finding.verdict for finding in findings if finding.verdict is not None]
        steady = traffic.steady_window()
        # All the work that the phase's calls make, until the last recording has long been on the disk.
        whole = (min(traffic.answered_at, default=0) - 0.5, max(traffic.hung_up_at, default=0) + 2.0)
        first_end, last_end = min(traffic.hung_up_at, default=0.0), max(traffic.hung_up_at, default=0.0)
        durable = [f.durable_s for f in findings if f.durable_s is not None]
        finish = (first_end, last_end + max(durable, default=0.0) + 0.5)
        sides = (traffic.caller.statistics, traffic.application.statistics)
        return cls(
            phase=traffic.phase,
            good=audit.good,
            failed_calls=max(side.failed for side in sides),
            retransmissions=sum(side.retransmissions for side in sides),
            sipp_late=sum(side.watchdog for side in sides),
            length_error_s=Spread.of([v.length_error_s for v in verdicts if v.length_error_s is not None]),
            offset_s=Spread.of([v.offset_s for v in verdicts if v.offset_s is not None]),
            start_s=Spread.of([v.caller_start_s for v in verdicts if v.caller_start_s is not None]),
            durable_s=Spread.of(durable),
            gap_s=sum(v.gap_s for v in verdicts),
            gaps=sum(v.gaps for v in verdicts),
            slips=sum(v.slips for v in verdicts),
            disturbances=sum(v.disturbances for v in verdicts),
            drift_s=Spread.of([v.drift_s for v in verdicts]),
            clipped_s=Spread.of([v.clipped_s for v in verdicts]),
            bursts=sum(v.bursts for v in verdicts),
            muted_calls=sum(f.sensitive for f in findings),
            silent_s=sum(v.silent_s for v in verdicts),
            manifest_gaps=sum(f.gaps for f in findings),
            verify_s=verify_s,
            cpu_share=sampler.cpu_share(steady) if sampler is not None and steady is not None else None,
            cpu_s=sampler.cpu_s(whole) if sampler is not None and traffic.answered_at else None,
            talk_s=traffic.talk_s,
            window_s=whole[1] - whole[0],
            finish_cpu_s=sampler.cpu_s(finish) if sampler is not None and traffic.hung_up_at else None,
            finish_s=finish[1] - finish[0],
            finish_talk_s=sum(moment - first_end for moment in traffic.hung_up_at),
            last_hang_up=last_end,
            rtp=traffic.rtp,
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """What the recorder's process took. CPU in shares of one core or in seconds; None: could not be measured.

    `cpu_per_dialog` is all CPU in the steady state over the dialogs, `idle_share` (no call at all) included.
    `cpu_per_call_s` is the CPU of a set-up, tear-down and finished file: what a phase of short calls took, less the
    idle share, less what its talk time costs by the steady phase's rate, over its calls.
    `cpu_finish_per_minute_s` is the CPU that ending the steady phase's calls and finishing their files took, for each
    minute of talk: the same less what went on beside it.
    """

    idle_share: float | None = None
    dialogs: int = 0
    cpu_per_dialog: float | None = None
    cpu_per_call_s: float | None = None
    cpu_finish_per_minute_s: float | None = None
    short_calls: int = 0
    before: Sample | None = None
    after: Sample | None = None
    rss_peak_bytes: int = 0
    fds_peak: int = 0
    threads_peak: int = 0
    udp_drops_peak: int = 0
    rss_kept_per_call_bytes: float | None = None

    @classmethod
    def of(cls, phases: Sequence[PhaseResult], sampler: Sampler, idle: tuple[float, float]) -> Cost:
        """Work the cost out of all phases. `idle` is a time before the first call."""
        idle_share = sampler.cpu_share(idle) or 0.0
        steady = max(
            (p for p in phases if p.cpu_share is not None), key=lambda p: (p.phase.calls, p.talk_s), default=None
        )
        short = min((p for p in phases if p.cpu_s is not None), key=lambda p: p.phase.duration_s, default=None)
        per_call = None
        if short is steady:
            short = None  # one phase alone does not tell set-up from media
        if steady is not None and steady.cpu_share is not None and short is not None and short.cpu_s is not None:
            media_share = (steady.cpu_share - idle_share) / steady.phase.calls
            per_call = (short.cpu_s - idle_share * short.window_s - media_share * short.talk_s) / short.phase.calls
        per_minute = None
        if steady is not None and steady.cpu_share is not None and steady.finish_cpu_s is not None:
            media_share = (steady.cpu_share - idle_share) / steady.phase.calls
            beside = idle_share * steady.finish_s + media_share * steady.finish_talk_s
            per_minute = max(0.0, steady.finish_cpu_s - beside) / (steady.talk_s / 60)
        samples = sampler.samples
        return cls(
            idle_share=idle_share,
            dialogs=steady.phase.calls if steady is not None else 0,
            cpu_per_dialog=steady.cpu_share / steady.phase.calls if steady is not None and steady.cpu_share else None,
            cpu_per_call_s=per_call,
            cpu_finish_per_minute_s=per_minute,
            short_calls=short.phase.calls if short is not None else 0,
            before=next((s for s in samples if s.at >= idle[0]), None),
            after=samples[-1] if samples else None,
            rss_peak_bytes=peak(s.rss_bytes for s in samples),
            fds_peak=peak(s.fds for s in samples),
            threads_peak=peak(s.threads for s in samples),
            udp_drops_peak=peak(s.udp_drops for s in samples),
            rss_kept_per_call_bytes=_kept(phases, samples),
        )


def _kept(phases: Sequence[PhaseResult], samples: Sequence[Sample]) -> float | None:
    """What memory has grown by for each call after the first phase, when everything that is kept for reuse is there."""
    later = sum(p.phase.calls for p in phases[1:])
    if not later or not samples:
        return None
    first_end = phases[0].last_hang_up + 2.0
    settled = next((sample for sample in samples if sample.at >= first_end), None)
    return (samples[-1].rss_bytes - settled.rss_bytes) / later if settled is not None else None


@dataclass(slots=True)
class Results:
    """Everything. `faults` is empty when the test has passed."""

    options: Options
    machine: dict[str, object]
    phases: list[PhaseResult] = field(default_factory=list)
    cost: Cost | None = None
    floors: list[Floor] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    stalls: list[Stall] = field(default_factory=list)
    stolen_s: float | None = None
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every recording is there and right."""
        return not self.faults

    @property
    def floor_ratio(self) -> float | None:
        """The recorder's CPU per dialog over the bare relay's, with packets of the same shape."""
        shape = "spread" if self.options.spread else "burst"
        floor = next((floor for floor in self.floors if floor.shape == shape), None)
        if floor is None or self.cost is None or self.cost.cpu_per_dialog is None or floor.cpu_per_dialog == 0:
            return None
        return self.cost.cpu_per_dialog / floor.cpu_per_dialog

    def as_tree(self) -> dict[str, Any]:
        """All of it as plain values, fit for JSON."""
        tree: dict[str, Any] = _plain(asdict(self))
        tree["options"]["codec"] = self.options.codec.label
        tree["options"]["file_format"] = self.options.file_format.label
        tree["passed"] = self.ok
        tree["floor_ratio"] = self.floor_ratio
        for floor, values in zip(self.floors, tree["floors"], strict=True):
            values["cpu_per_dialog"] = floor.cpu_per_dialog
        return tree


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, str | int | float | bool | type(None)) else str(value)
