"""From SIP text to the core's plain values. What comes in here is untrusted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from recorder.calls.events import LOOPBACK, Invite
from recorder.calls.targets import Contact, place_of
from recorder.errors import InvalidRequestError

# RFC 3261, section 20: the one-letter forms of header names.
_COMPACT = {
    "i": "call-id",
    "m": "contact",
    "e": "content-encoding",
    "l": "content-length",
    "c": "content-type",
    "f": "from",
    "s": "subject",
    "k": "supported",
    "t": "to",
    "v": "via",
}
_URI = re.compile(r"sips?:(?:(?P<user>[^@:\s<>]*)(?::[^@\s<>]*)?@)?[^\s<>]", re.IGNORECASE)
_IN_BRACKETS = re.compile(r"[!#-;=?-~]+")  # printable, and nothing that would end the brackets
_TEL_URI = re.compile(r"tel:[0-9+*#().-]{1,64}(?:;[A-Za-z0-9=.;+-]{0,128})?", re.IGNORECASE)
_Q = re.compile(r";\s*q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)(?![0-9.])", re.IGNORECASE)
_ONE_OF_A_LIST = re.compile(r"""(?:[^,"<>]|"(?:[^"\\]|\\.)*"|<[^<>]*>)+""")
_LONGEST_CONTACT = 2048
_MOST_CONTACTS = 10
_TEL = re.compile(r"tel:(?P<user>[^;>\s]+)", re.IGNORECASE)
# Only at the start, where it may stand (section 25.1): looked for everywhere, many quotes take quadratic time.
_QUOTED_NAME = re.compile(r'\s*"(?:[^"\\]|\\.)*"', re.DOTALL)


def invite(message: str, source: str, time_ms: int, trunk: str = LOOPBACK) -> Invite:
    """Read an INVITE.

    Args:
        message: the whole request as it came in; bytes that are no UTF-8 as lone surrogates.
        source: `address:port` of the sender, `[address]:port` for IPv6.
        trunk: the trunk that it came from.

    Raises:
        InvalidRequestError: the text has no request line or no Call-ID.
    """
    message = readable(message)
    request_line, _, rest = message.partition("\r\n")
    parts = request_line.split(" ")
    if len(parts) != 3:
        raise InvalidRequestError("the request line cannot be read")
    lines = fields(rest)
    by_name = headers(lines)
    call_ids = by_name.get("call-id", ())
    if not call_ids:
        raise InvalidRequestError("Call-ID is missing")
    calling_uri = uri_of(by_name.get("from", ("",))[0])
    return Invite(
        sip_call_id=call_ids[0],
        source=source.rpartition(":")[0].strip("[]"),
        called=user_of(parts[1]),
        calling=user_of(calling_uri),
        calling_uri=calling_uri,
        time_ms=time_ms,
        headers=by_name,
        fields=lines,
        trunk=trunk,
    )


def readable(wire: str) -> str:
    """What came in, as logs, database and manifest can hold it: lone surrogates, bytes that were no UTF-8, replaced."""
    return wire if wire.isascii() else wire.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def fields(text: str) -> tuple[tuple[str, str], ...]:
    """Read a header block up to its empty line: names and values as they came.

    Folded lines are joined (RFC 3261, section 7.3.1).
    """
    block = text.partition("\r\n\r\n")[0]
    if "\r\n " in block or "\r\n\t" in block:
        block = re.sub(r"\r\n[ \t]+", " ", block)
    lines = (line.partition(":") for line in block.split("\r\n"))
    return tuple((name.strip(), value.strip()) for name, colon, value in lines if colon)


def headers(lines: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """The values by lower-case full name, in their order."""
    found: dict[str, tuple[str, ...]] = {}
    for name, value in lines:
        key = name.lower()
        key = _COMPACT.get(key, key)
        found[key] = (*found.get(key, ()), value)
    return found


def uri_of(name_addr: str) -> str:
    """The URI in a From, To or Contact value, without its header parameters."""
    name = _QUOTED_NAME.match(name_addr)
    _, opened, inside = name_addr[name.end() if name else 0 :].partition("<")
    return inside.partition(">")[0].strip() if opened else name_addr.partition(";")[0].strip()


def contacts(message: str) -> tuple[Contact, ...]:
    """Where a 3xx points to (RFC 3261, section 20.10): the most wanted first. What is no SIP or tel URI is left out."""
    found: list[Contact] = []
    for value in headers(fields(message.partition("\r\n")[2])).get("contact", ()):
        for name_addr in _ONE_OF_A_LIST.findall(value[:_LONGEST_CONTACT]):
            uri = uri_of(name_addr)
            if not _IN_BRACKETS.fullmatch(uri) or (place_of(uri) is None and not _TEL_URI.fullmatch(uri)):
                continue
            parameters = name_addr.rpartition(">")[2] if "<" in name_addr else name_addr
            q = _Q.search(parameters)
            found.append(Contact(uri, float(q[1]) if q else 1.0))
    return tuple(sorted(found, key=lambda contact: -contact.q))[:_MOST_CONTACTS]


def user_of(uri: str) -> str:
    """The user part of a SIP URI or the number of a tel URI, unescaped; "" where there is none."""
    found = _URI.match(uri) or _TEL.match(uri)
    return unquote((found.group("user") or "") if found else "")
