"""What one leg says of itself to the other: which headers go across, and what they may hold.

Pure, and strict: what comes in is untrusted, and what goes out is written into a message of ours. A header that cannot
be passed on as it is, is left out; it is never mended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from recorder.header_names import OF_CONTENTS, OURS, is_name

Headers = tuple[tuple[str, str], ...]
Hosts = Literal["ours", "target", "keep"]

MOST_HEADERS = 32
LONGEST_VALUE_BYTES = 1024
MOST_BYTES = 4096
LONGEST_DISPLAY = 128

# Headers that name people by URIs, whose hosts tell of the network they come from.
_IDENTITIES = frozenset(
    ["p-asserted-identity", "p-preferred-identity", "p-called-party-id", "remote-party-id", "diversion", "history-info"]
)
_URI_HOST = re.compile(
    r"(?P<scheme>\bsips?:)(?P<user>[^\s<>@\"]*@)?(?P<host>\[[0-9a-f:.]+\]|[^\s<>:;?,@\"\[\]]+)(?P<port>:[0-9]+)?",
    re.IGNORECASE,
)
_PLACE = re.compile(r";(?:maddr|received|rport|transport|ttl)(?:=[^;>,?\s]*)?(?=[;>,?\s]|$)", re.IGNORECASE)
_IP_ADDRESS = re.compile(
    r"(?<![0-9.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9.])|\[[0-9a-f:.]*:[0-9a-f:.]*\]", re.IGNORECASE
)
_ANY_ADDRESS = re.compile(
    r"(?<![0-9a-z.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-f]*:[0-9a-f:.]*:[0-9a-f.]*)", re.IGNORECASE
)
_SENT_BY = re.compile(r"SIP\s*/\s*2\.0\s*/\s*\w+\s+(\[[0-9a-f:.]+\]|[^\s:;,]+)", re.IGNORECASE)
_IN_WORD = re.compile(r"[\w.-]")
_GOES_ON = re.compile(r"[\w-]|\.\w")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*<', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Passed:
    """What goes across, and the names of what had to be left out."""

    headers: Headers
    dropped: tuple[str, ...]


class Passing:
    """Which headers cross the recorder, by their names; `X-*` stands for all names that begin with `X-`.

    Args:
        names: the names, in any case.
        hosts: what stands for the hosts of the URIs in headers that name people: `ours`, the `target` of the message,
            or `keep` for what they came with.
    """

    def __init__(self, names: Iterable[str], hosts: Hosts = "ours") -> None:
        lower = [name.lower() for name in names]
        self._exact = frozenset(name for name in lower if not name.endswith("*"))
        self._beginnings = tuple(name[:-1] for name in lower if name.endswith("*"))
        self._hosts = hosts

    def carries(self, name: str, whole: bool = False) -> bool:
        """Whether a header of this name goes across; `whole`: of a message that does so with its contents."""
        lower = name.lower()
        if whole and lower in OF_CONTENTS:
            return True
        return (lower in self._exact or lower.startswith(self._beginnings)) and lower not in OURS

    def select(
        self,
        fields: Iterable[tuple[str, str]],
        *,
        home: str,
        target: str,
        tells: Callable[[str], bool] = lambda _value: False,
        whole: bool = False,
    ) -> Passed:
        """Pick what goes across out of `fields`, in its order.

        Args:
            fields: names and values as they came, folded lines joined.
            home, target: `host[:port]` of ours, and of where the message goes.
            tells: whether a value tells of a place that the far end is not to know of.
            whole: the message goes across with its contents, an INFO or a MESSAGE.
        """
        kept: list[tuple[str, str]] = []
        dropped: list[str] = []
        room = MOST_BYTES
        for name, value in fields:
            # RFC 6086, section 5.2.1: an empty one says that no package is taken, and there is nothing to pass on.
            if not self.carries(name, whole) or (name.lower() == "recv-info" and not value):
                continue
            clean = self._clean(name, value, home if self._hosts == "ours" else target, tells)
            size = 0 if clean is None else len(name) + len(clean.encode()) + 4
            if clean is None or len(kept) == MOST_HEADERS or size > room:
                dropped.append(name[:64])
                continue
            room -= size
            kept.append((name, clean))
        return Passed(tuple(kept), tuple(dropped))

    def host(self, came_with: str, *, home: str, target: str) -> str:
        """The host of a From or To that goes out, in place of the one it `came_with`."""
        if is_anonymous(came_with) or (self._hosts == "keep" and _is_host(came_with)):
            return came_with
        return home if self._hosts != "target" else target

    def _clean(self, name: str, value: str, host: str, tells: Callable[[str], bool]) -> str | None:
        if not is_name(name) or not is_value(value):
            return None
        if self._hosts == "keep":
            return value
        if name.lower() in _IDENTITIES:
            return rehosted(value, host)
        return None if tells(value) else value


def is_value(value: str) -> bool:
    """Whether a value may be written into a message as it is: one line of UTF-8, neither empty nor overlong."""
    if not value.strip() or len(value) > LONGEST_VALUE_BYTES or any(c != "\t" and not c.isprintable() for c in value):
        return False
    if "\ufffd" in value:  # stands for bytes that were no UTF-8
        return False
    try:
        return len(value.encode()) <= LONGEST_VALUE_BYTES
    except UnicodeEncodeError:  # lone surrogates stand for such bytes, too
        return False


def rehosted(value: str, host: str) -> str | None:
    """Put `host` in place of the host of every SIP URI in `value`; anonymous ones (RFC 3323) stay as they are.

    None when an address is left over all the same, somewhere that this does not understand.
    """

    def replaced(uri: re.Match[str]) -> str:
        return uri[0] if is_anonymous(uri["host"]) else f"{uri['scheme']}{uri['user'] or ''}{host}"

    result = _PLACE.sub("", _URI_HOST.sub(replaced, value))
    left = (found[0] for found in _IP_ADDRESS.finditer(result))
    return None if any(address not in host for address in left) else result


def addresses_in(value: str) -> Iterable[IPv4Address | IPv6Address]:
    """Every IP address that stands in a value: IPv4, and IPv6 in brackets or without."""
    for found in _ANY_ADDRESS.finditer(value):
        with suppress(ValueError):
            yield ip_address(found[0])


def hosts_in(fields: Iterable[str]) -> Iterable[str]:
    """Every host in values of Via, Contact, Route and the like, in lower case and without brackets."""
    for value in fields:
        for found in _URI_HOST.finditer(value):
            yield found["host"].lower().strip("[]")
        for found in _SENT_BY.finditer(value):
            yield found[1].lower().strip("[]")


def names_one_of(value: str, places: Iterable[str]) -> bool:
    """Whether one of `places` (hosts, Call-IDs) stands in a value as a word of its own."""
    lower = value.lower()
    for place in places:
        at = lower.find(place)
        while at >= 0:
            before, after = lower[:at][-1:], lower[at + len(place) :]
            if not _IN_WORD.match(before) and not _GOES_ON.match(after):
                return True
            at = lower.find(place, at + 1)
    return False


def is_anonymous(host: str) -> bool:
    """Whether a host is the one that stands for nobody (RFC 3323, section 4.1.1.3)."""
    return host.lower() == "anonymous.invalid"


def display_of(name_addr: str) -> str:
    """The display name of a From or To value, unquoted; "" where there is none or it cannot be written again."""
    text = name_addr.lstrip()
    found = _QUOTED.match(text)
    if found is not None:
        display = re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL)
    else:
        tokens, opened, _ = text.partition("<")
        display = tokens.rstrip() if opened and not any(mark in tokens for mark in '">:;,') else ""
    return display if is_value(display) and len(display) <= LONGEST_DISPLAY else ""


def quoted(display: str) -> str:
    """A display name as a quoted string (RFC 3261, section 25.1)."""
    escaped = display.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def host_of(uri: str) -> str:
    """The host of a SIP URI without its port; "" where there is none."""
    found = _URI_HOST.match(uri)
    return found["host"] if found else ""


def host_and_port_of(uri: str) -> str:
    """`host[:port]` of a SIP URI; "" where there is none."""
    found = _URI_HOST.match(uri)
    return f"{found['host']}{found['port'] or ''}" if found else ""


def values(fields: Sequence[tuple[str, str]], name: str) -> list[str]:
    """Every value of the header `name`, given in lower case."""
    return [value for key, value in fields if key.lower() == name]


def _is_host(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]+\]", text) is not None
