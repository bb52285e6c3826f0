"""How a leg that goes out is dialed: everything that its INVITE says beyond what the stack fills in."""

from __future__ import annotations

from dataclasses import dataclass

from recorder.calls.targets import Address


@dataclass(frozen=True, slots=True)
class Dialing:
    """One INVITE to be sent.

    Attributes:
        target: the URI to send it to.
        calling: user part of From; "" for none.
        display: the display name of From; "" for none.
        host: `host[:port]` of From; "" for our own address.
        to: the whole value of To; "" for the target itself.
        trunk: the trunk whose account (credentials, encryption) it goes out by; None for the recorder's own.
        headers: more headers, as (name, value), in their order.
        address: where to send it, in place of what the URI says; None to go by the URI.
    """

    target: str
    calling: str = ""
    display: str = ""
    host: str = ""
    to: str = ""
    trunk: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    address: Address | None = None
