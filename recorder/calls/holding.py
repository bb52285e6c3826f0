"""Hold across two legs: what one far end asks for is told to the other one, once, and again when it must be.

A hold is answered where it was asked for at once, and passed on after: music on hold is heard and recorded from the
first packet on, and a far end that is slow or refuses costs the one that holds nothing (it does not listen either way).
"""

from __future__ import annotations

import random
from collections.abc import Callable

from recorder.calls.actions import Action, Reinvite, StartTimer
from recorder.calls.events import Direction, Side, Timer

_ATTEMPTS = 6  # glare is settled by the second; what fails more often is not glare
# RFC 3261, section 14.1: in seconds, by whether the Call-ID is ours.
_GLARE_PAUSES_S = {Side.A: (0.0, 2.0), Side.B: (2.1, 4.0)}
_TIMERS = {Side.A: Timer.REINVITE_A, Side.B: Timer.REINVITE_B}


class Holding:
    """What one leg has been told of the direction that the other one asked for."""

    def __init__(
        self,
        side: Side,
        uniform: Callable[[float, float], float] = random.uniform,
        told: Direction = Direction.SENDRECV,
        asked: Direction = Direction.SENDRECV,
    ) -> None:
        self._side = side
        self._uniform = uniform
        self.wanted = Direction.SENDRECV
        self.told = told
        self._asked = asked
        self._asking: Direction | None = None
        self._attempts = 0
        self._up = False

    def begin(self) -> list[Action]:
        """The call is up: re-INVITEs may be sent from now on."""
        self._up = True
        return self._settle()

    def offer(self) -> Direction:
        """Another far end is sent an INVITE, whose offer says what is wanted; it has asked for nothing yet."""
        self.told, self._asked = self.wanted, Direction.SENDRECV
        return self.told

    def want(self, direction: Direction) -> list[Action]:
        """The other leg's far end has asked for `direction`."""
        self.wanted = direction
        self._attempts = 0
        return self._settle()

    def asked(self, direction: Direction) -> list[Action]:
        """This leg's own far end has asked for `direction`, and been answered with no more than it allows."""
        self._asked = direction
        self._attempts = 0
        return self._settle()

    def ended(self, sip_status: int) -> list[Action]:
        """The re-INVITE is over. One that met another is tried again; one that was refused changes nothing."""
        asked, self._asking = self._asking, None
        if asked is None:
            return []
        if sip_status < 300:
            self.told = asked
            return self._settle()
        # 500 is what RFC 3261, section 14.2, answers to a re-INVITE that comes while the one before is not answered.
        if sip_status not in (491, 500) or self._attempts >= _ATTEMPTS:
            return []
        least, most = _GLARE_PAUSES_S[self._side]
        return [StartTimer(_TIMERS[self._side], round(self._uniform(least, most), 2))]

    def retry(self) -> list[Action]:
        """The pause after a glare is over."""
        return self._settle()

    def _settle(self) -> list[Action]:
        if not self._up or self._asking is not None or self._is_told():
            return []
        self._asking = self.wanted
        self._attempts += 1
        return [Reinvite(self._side, self.wanted)]

    def _is_told(self) -> bool:
        """Whether a re-INVITE would change nothing, given what the far end itself has asked for."""
        allowed = _MIRRORED[self._asked]
        return _in_common(self.wanted, allowed) is _in_common(self.told, allowed)


_SENDS_AND_RECEIVES = {
    Direction.SENDRECV: (True, True),
    Direction.SENDONLY: (True, False),
    Direction.RECVONLY: (False, True),
    Direction.INACTIVE: (False, False),
}
_NAMES = {ways: direction for direction, ways in _SENDS_AND_RECEIVES.items()}
_MIRRORED = {direction: _NAMES[ways[::-1]] for direction, ways in _SENDS_AND_RECEIVES.items()}


def _in_common(one: Direction, other: Direction) -> Direction:
    (sends, receives), (also_sends, also_receives) = _SENDS_AND_RECEIVES[one], _SENDS_AND_RECEIVES[other]
    return _NAMES[sends and also_sends, receives and also_receives]
