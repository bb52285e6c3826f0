"""Where a call may go, which place is tried first, and which answer makes it try the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from random import Random


@dataclass(frozen=True, slots=True)
class Target:
    """One place to send a call on to.

    Attributes:
        uri: the Request-URI.
        priority: the lowest is tried first; weight: its share among those of one priority (RFC 2782).
        trunk: the trunk whose account the call goes out by; None for the recorder's own.
        setup_timeout_s: how long it may stay without any answer; None for the common limit.
    """

    uri: str
    priority: int = 0
    weight: int = 1
    trunk: str | None = None
    setup_timeout_s: float | None = None


@dataclass(slots=True)
class Attempt:
    """One target that a call was sent to. Times are in seconds on the call's clock.

    `sip_status` is its final response, None when none came; `reason` says in a word why it was given up, and is None
    while it is tried and when it has answered.
    """

    target: Target
    began_at: float
    ended_at: float | None = None
    sip_status: int | None = None
    reason: str | None = None


def in_order(targets: Iterable[Target], random: Random) -> tuple[Target, ...]:
    """Every target in the order to try them: by priority, those of one priority drawn by weight (RFC 2782, page 3)."""
    by_priority = sorted(targets, key=lambda target: target.priority)
    return tuple(
        target for _, equals in groupby(by_priority, lambda it: it.priority) for target in _drawn(equals, random)
    )


def _drawn(equals: Iterable[Target], random: Random) -> Iterator[Target]:
    # Those of weight 0 come first in the list, so that they have a small chance and not none.
    left = sorted(equals, key=lambda target: target.weight != 0)
    while left:
        number = random.randint(0, sum(target.weight for target in left))
        for position, target in enumerate(left):
            number -= target.weight
            if number <= 0:
                yield left.pop(position)
                break


def is_worth_another(sip_status: int) -> bool:
    """Whether a final response is the target's own failure, so that another one may do better.

    0 stands for none: it could not be reached. A busy or absent callee, and whatever the caller did wrong, would be the
    same elsewhere; 6xx says so itself (RFC 3261, section 21.6).
    """
    return sip_status == 0 or sip_status == 408 or 500 <= sip_status <= 599
