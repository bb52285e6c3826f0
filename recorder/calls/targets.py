"""Where a call may go, which place is tried first, and which answer makes it try the next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import groupby
from random import Random
from typing import Protocol, TypeVar

# RFC 3261, section 25.1: scheme:[user@]host[:port][;parameters][?headers]
_URI = re.compile(
    r"(?P<scheme>sips?):(?:[^@<>\s]*@)?(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<host>[a-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<parameters>;[^?\s<>\"]*)?(?:\?[^\s<>\"]*)?",
    re.IGNORECASE,
)
_REMEMBERED = 1024  # URIs: most of a call's are asked for several times, those of targets by every call
_TRANSPORT = re.compile(r";transport=(udp|tcp|tls)(?:;|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """What a URI says of where it leads: port and transport are None where it does not say."""

    host: str
    port: int | None = None
    transport: str | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """Where a request is sent: an IP address, a port, and "udp", "tcp" or "tls"."""

    ip: str
    port: int
    transport: str

    def __str__(self) -> str:
        return f"{self.transport}:{f'[{self.ip}]' if ':' in self.ip else self.ip}:{self.port}"


@lru_cache(_REMEMBERED)
def place_of(uri: str) -> Place | None:
    """Where a SIP URI leads; None for anything else. `sips` means TLS (RFC 3261, section 19.1)."""
    found = _URI.fullmatch(uri)
    if found is None:
        return None
    transport = _TRANSPORT.search(found["parameters"] or "")
    secure = found["scheme"].lower() == "sips"
    return Place(
        (found["ipv6"] or found["host"]).lower(),
        int(found["port"]) if found["port"] else None,
        "tls" if secure else transport[1].lower() if transport else None,
    )


def transport_of(uri: str) -> str:
    """The transport that a SIP URI asks for: udp, tcp or tls (RFC 3261, section 19.1.1)."""
    place = place_of(uri)
    return (place.transport if place is not None else None) or "udp"


@lru_cache(_REMEMBERED)
def address_in(uri: str) -> IPv4Address | IPv6Address | None:
    """The IP address in a SIP URI; None for a host name."""
    place = place_of(uri)
    return None if place is None or is_name(place.host) else ip_address(place.host)


def is_name(host: str) -> bool:
    """Whether a host is a name to be looked up, and not an address."""
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


def lookup_of(uri: str) -> Place | None:
    """The name in a SIP URI that has to be looked up; None when there is an address in its place."""
    place = place_of(uri)
    return place if place is not None and is_name(place.host) else None


@dataclass(frozen=True, slots=True)
class Contact:
    """One place that a 3xx points to: a SIP or tel URI, and how much the far side prefers it, 0 to 1."""

    uri: str
    q: float = 1.0

    def __str__(self) -> str:
        return f"<{self.uri}>;q={self.q:.3g}"


class Ranked(Protocol):
    """What has a place in an order by priority and weight."""

    @property
    def priority(self) -> int:
        """The lowest goes first."""

    @property
    def weight(self) -> int:
        """The share among those of one priority."""


_Ranked = TypeVar("_Ranked", bound=Ranked)


@dataclass(frozen=True, slots=True)
class Target:
    """One place to send a call on to.

    Attributes:
        uri: the Request-URI.
        priority: the lowest is tried first; weight: its share among those of one priority (RFC 2782).
        trunk: the trunk whose account the call goes out by; None for the recorder's own.
        setup_timeout_s: how long it may stay without any answer; None for the common limit.
        lookup: the name that has to be looked up before it can be dialed; None when there is none, or no more.
        address: where its requests go, in place of what the URI says.
    """

    uri: str
    priority: int = 0
    weight: int = 1
    trunk: str | None = None
    setup_timeout_s: float | None = None
    lookup: Place | None = None
    address: Address | None = None


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


def in_order(targets: Iterable[_Ranked], random: Random) -> tuple[_Ranked, ...]:
    """Every target in the order to try them: by priority, those of one priority drawn by weight (RFC 2782, page 3)."""
    by_priority = sorted(targets, key=lambda target: target.priority)
    return tuple(
        target for _, equals in groupby(by_priority, lambda it: it.priority) for target in _drawn(equals, random)
    )


def _drawn(equals: Iterable[_Ranked], random: Random) -> Iterator[_Ranked]:
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
