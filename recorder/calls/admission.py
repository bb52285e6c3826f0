"""Whether there is room for one more call, asked before anything is spent on it."""

from __future__ import annotations

from dataclasses import dataclass

from recorder.settings import Settings


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no room: `reason` is fit for a metric label, `detail` for a person."""

    reason: str
    detail: str
    retry_after_s: int


class Admission:
    """The limits of one configuration."""

    def __init__(self, settings: Settings) -> None:
        # The settings have been checked: the range of RTP ports suffices for as many.
        self.capacity = settings.sip.max_calls
        self.draining = False

    def refusal(self, live_calls: int) -> Refusal | None:
        """Why a call on top of `live_calls` is turned away; None when there is room."""
        if self.draining:
            return Refusal("draining", "Shutting down", 30)
        if live_calls >= self.capacity:
            return Refusal("capacity", "All lines are busy", 5)
        return None
