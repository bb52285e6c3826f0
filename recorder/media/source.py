"""What a recording reads from: one leg's samples on the media clock, as the native tap gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Samples: TypeAlias = npt.NDArray[np.int16]
"""One-dimensional, contiguous, linear 16-bit."""

LegName = Literal["a", "b"]

Cause = Literal[
    "loss", "late", "dtx", "event", "hold", "no_rtp", "never_started", "ring_full", "storage", "file_lost", "failure"
]
"""Why there is a gap; `recorder.media.gaps` says what each means."""


class SampleSource(Protocol):
    """One leg's audio. All positions are in samples of the media clock, which both legs share.

    One thread reads (the writer's); the properties may be read from any thread. A source that has been replaced stays
    readable: what it still holds is read once more, then the source is let go.
    """

    @property
    def origin(self) -> int | None:
        """Position of the first sample ever; None before there is one."""

    @property
    def position(self) -> int:
        """Just past the last sample that can be read now or could be before."""

    @property
    def dropped_samples(self) -> int:
        """Samples that were lost since the start because nobody read in time."""

    def read(self, max_samples: int = ...) -> tuple[int, Samples]:
        """Take up to `max_samples`: (position of the first, a fresh array). Follows the last read without a break.

        What was lost or never came reads as zeros. The array is empty when there is nothing to read.
        """

    def take_events(self) -> list[tuple[int, int]]:
        """(start, length) of each telephone event (RFC 4733) since the last call; one that goes on comes again."""

    def take_gaps(self, last: bool = ...) -> Sequence[tuple[Cause, int, int]]:
        """(cause, start, length) of each stretch without sound that has ended, or been explained, since the last call.

        `last`: nothing is read any more, so that the stretch that has not ended ends here. One of cause `late` takes
        the place of what was said of the same stretch before.
        """
