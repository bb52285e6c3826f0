"""The two clocks of a recording that leaves stretches out: the call's runs on, the file's does not."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple


class Join(NamedTuple):
    """Where the file goes on after a stretch of the call that is not in it. All three are in samples.

    `position` is where in the file, `call_position` where in the call the stretch began, `left_out` how long it was.
    """

    position: int
    call_position: int
    left_out: int


class Cuts:
    """What has been left out so far. Positions count from the start of the file, and of the call, which is the same.

    The writer thread adds; any thread may read what was added before.
    """

    def __init__(self) -> None:
        self._joins: list[Join] = []
        self._starts: list[int] = []

    @property
    def joins(self) -> tuple[Join, ...]:
        """Every join, in order."""
        return tuple(self._joins)

    def leave_out(self, start: int, stop: int) -> None:
        """Leave [start, stop) of the call out: not before what was left out already."""
        if self._joins:
            last = self._joins[-1]
            if start == last.call_position + last.left_out:
                self._joins[-1] = last._replace(left_out=stop - last.call_position)
                return
        self._joins.append(Join(self.in_file(start), start, stop - start))
        self._starts.append(start)

    def in_file(self, position: int) -> int:
        """Where in the file a position of the call stands; one that was left out is at its join."""
        index = bisect_right(self._starts, position) - 1
        if index < 0:
            return position
        join = self._joins[index]
        return join.position + max(0, position - join.call_position - join.left_out)

    def in_call(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Which stretches of the call stand in [start, stop) of the file."""
        stretches = []
        for join in self._joins:
            if start < join.position < stop:
                stretches.append((self.call_position(start), join.call_position))
                start = join.position
        if start < stop:
            begin = self.call_position(start)
            stretches.append((begin, begin + stop - start))
        return stretches

    def call_position(self, position: int) -> int:
        """Where in the call a sample of the file comes from; the first behind a join, from behind what was left out."""
        left_out = sum(join.left_out for join in self._joins if join.position <= position)
        return position + left_out
