"""What a recording reads from: one leg's samples on the bridge clock, as the native tap gives them."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Samples: TypeAlias = npt.NDArray[np.int16]
"""One-dimensional, contiguous, linear 16-bit."""

LegName = Literal["a", "b"]


class SampleSource(Protocol):
    """One leg's audio. All positions are in samples of the bridge clock, which both legs share.

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

    def take_gaps(self) -> list[tuple[int, int]]:
        """(start, length) of each stretch lost since the last call because nobody read in time."""
