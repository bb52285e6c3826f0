"""What a soak test is asked to do, and what it found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recorder.errors import InvalidRequestError
from recorder.loadtest.measure import machine
from recorder.loadtest.soak_audit import Kept, Share
from recorder.loadtest.soak_kinds import KINDS, Kind

BATCHES = ("first", "second", "third")


@dataclass(frozen=True, slots=True)
class SoakOptions:
    """What `recorder soak` is asked to do.

    Attributes:
        calls: how many in all, in three batches. rate: how many are begun a second; None to look for the highest.
        seed: of the mix. kinds: names of `soak_kinds.KINDS`; () for all.
        json_path: where to put everything that was found. keep: where to leave recordings and logs.
    """

    calls: int = 1000
    rate: float | None = None
    seed: int = 1
    kinds: tuple[str, ...] = ()
    json_path: Path | None = None
    keep: Path | None = None

    def chosen(self) -> list[Kind]:
        """The kinds of calls to make. Raises InvalidRequestError for a name that there is not, or too few calls."""
        by_name = {kind.name: kind for kind in KINDS}
        if unknown := [name for name in self.kinds if name not in by_name]:
            raise InvalidRequestError(f"there is no kind of call {unknown[0]!r}; there are: {', '.join(by_name)}")
        chosen = [by_name[name] for name in self.kinds] if self.kinds else list(KINDS)
        if self.calls < len(BATCHES) * len(chosen):
            raise InvalidRequestError(f"--calls: at least {len(BATCHES) * len(chosen)}, one of each kind in each batch")
        if self.rate is not None and self.rate <= 0:
            raise InvalidRequestError("--rate: must be more than 0")
        return chosen


@dataclass(slots=True)
class SoakResult:
    """What was found. `kept` holds readings without calls: before, then after each batch."""

    options: SoakOptions
    rate: float = 0.0
    steps: list[tuple[float, bool]] = field(default_factory=list)
    batches: list[list[Share]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    peak_calls: int = 0
    kept: list[Kept] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every call went and ended as it should, and nothing is left of any."""
        return not self.faults

    @property
    def shares(self) -> list[Share]:
        """All batches' shares."""
        return [share for batch in self.batches for share in batch]

    def as_tree(self) -> dict[str, Any]:
        """Everything, fit for JSON."""
        return {
            "passed": self.ok,
            "machine": machine(),
            "calls": self.options.calls,
            "seed": self.options.seed,
            "rate": self.rate,
            "steps": [{"rate": rate, "held": held} for rate, held in self.steps],
            "batch_seconds": self.seconds,
            "peak_calls": self.peak_calls,
            "kinds": [
                {
                    "name": share.kind.name,
                    "calls": len(share.sip_call_ids),
                    "right": share.right,
                    "endings": dict(share.endings),
                    "sipp_failed": share.failed,
                    "retransmissions": share.retransmissions,
                }
                for share in self.shares
            ],
            "kept": [asdict(kept) for kept in self.kept],
            "notes": self.notes,
            "faults": self.faults,
        }
