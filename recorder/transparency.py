"""What each leg lets the other know: names, numbers and headers go across, addresses and Call-IDs do not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import quote

import structlog

from recorder.calls.dialing import Dialing
from recorder.calls.events import Invite
from recorder.calls.routing import USER_SAFE, Decision
from recorder.calls.targets import Target, address_in
from recorder.metrics import Metrics
from recorder.settings import Settings
from recorder.sip import headers, translate
from recorder.sip.headers import Headers, Passing

_log = structlog.get_logger()

# Of an INVITE that came in: where it says that its sender is.
_PLACES = ("via", "contact", "record-route")
_HOPS = re.compile(r"0{0,7}[1-9][0-9]{0,2}", re.ASCII)
_MOST_HOPS = 255  # RFC 3261, section 20.22


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where a message goes on to: its far end's URI, IP address ("" for none), and `host[:port]` as that knows us.

    `places()` are the hosts and Call-IDs of the side that the message comes from; they are asked for when a header
    crosses that could hold one.
    """

    to: str
    ip: str
    home: str
    places: Callable[[], Iterable[str]]


def places_of_caller(invite: Invite) -> set[str]:
    """The hosts that a caller has named in its INVITE as being there, where it came from, and its Call-ID."""
    named = (value for name in _PLACES for value in invite.headers.get(name, ()))
    return {invite.source, invite.sip_call_id.lower(), *headers.hosts_in(named)}


class Transparency:
    """The rules of one configuration, compiled."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        sip = settings.sip
        self._metrics = metrics
        self._inside = sip.local_networks
        self._info_package = settings.redaction.info_package
        self._common = Passing(sip.pass_headers, sip.identity_hosts)
        self._of_trunk = {
            trunk.name: Passing(trunk.pass_headers, sip.identity_hosts)
            for trunk in settings.trunks
            if trunk.pass_headers is not None
        }

    def dialing(self, invite: Invite, decision: Decision, target: Target, home: str) -> Dialing:
        """The INVITE that goes out to `target` for one that came in; `home` is `host[:port]` of ours."""
        passing = self._of_trunk.get(decision.trunk, self._common)
        far = headers.host_and_port_of(target.uri)
        crossing = Crossing(target.uri, ip_of(target), home, lambda: places_of_caller(invite))
        named = invite.headers.get("from", ("",))[0]
        host = passing.host(headers.host_of(invite.calling_uri), home=home, target=far)
        return Dialing(
            target.uri,
            calling=decision.calling,
            display=headers.display_of(named),
            host="" if host == home else host,
            to=self._to(invite, decision, target, far),
            trunk=target.trunk,
            address=target.address,
            headers=(*hops(invite), *self._offering(self._selected(passing, invite.fields, crossing))),
        )

    def across(self, fields: Iterable[tuple[str, str]], trunk: str, crossing: Crossing, *, whole: bool) -> Headers:
        """What of the header `fields` of a message goes on; `whole`: its contents do, too, as an INFO's."""
        passing = self._of_trunk.get(trunk, self._common)
        return self._selected(passing, fields, crossing, whole=whole)

    def _offering(self, passed: Headers) -> Headers:
        """The headers, with the Info Packages that the application may send: the caller's and our own (RFC 6086)."""
        if self._info_package is None:
            return passed
        others = tuple((name, value) for name, value in passed if name.lower() != "recv-info")
        return (*others, ("Recv-Info", ", ".join([self._info_package, *headers.values(passed, "recv-info")])))

    def _selected(
        self, passing: Passing, fields: Iterable[tuple[str, str]], crossing: Crossing, *, whole: bool = False
    ) -> Headers:
        target = headers.host_and_port_of(crossing.to)
        tells = self._tells(crossing)
        passed = passing.select(fields, home=crossing.home, target=target, tells=tells, whole=whole)
        if passed.dropped:
            self._metrics.headers_dropped.inc(len(passed.dropped))
            _log.warning("headers_dropped", count=len(passed.dropped), names=sorted(set(passed.dropped))[:5])
        return passed.headers

    def _tells(self, crossing: Crossing) -> Callable[[str], bool]:
        """Whether a header's value tells of a place that the far end must not know: the other side's, or one inside."""
        known = {*headers.hosts_in([crossing.to, f"sip:{crossing.home}"]), crossing.ip}
        secret: set[str] | None = None

        def tells(value: str) -> bool:
            nonlocal secret
            if secret is None:
                # A word without a dot or colon is no address, nor a name that leads anywhere from elsewhere.
                secret = {place for place in crossing.places() if "." in place or ":" in place} - known
            return headers.names_one_of(value, secret) or (
                not self._is_inside(crossing.ip)
                and any(self._is_inside(str(address)) for address in headers.addresses_in(value))
            )

        return tells

    def _is_inside(self, ip: str) -> bool:
        try:
            address = ip_address(ip)
        except ValueError:
            return False
        return any(address in network for network in self._inside)

    @staticmethod
    def _to(invite: Invite, decision: Decision, target: Target, far: str) -> str:
        """The To of the INVITE that goes out; "" when it is the target."""
        named = invite.headers.get("to", ("",))[0]
        display = headers.display_of(named)
        rewritten = decision.called != invite.called
        user = decision.called if rewritten else translate.user_of(translate.uri_of(named))
        if not display and user in ("", translate.user_of(target.uri)):
            return ""
        addressed = f"<sip:{quote(user, safe=USER_SAFE)}{'@' if user else ''}{far}>"
        return f"{headers.quoted(display)} {addressed}" if display else addressed


def ip_of(target: Target) -> str:
    """The IP address of a target; "" while it is a name."""
    if target.address is not None:
        return target.address.ip
    return str(address_in(target.uri) or "")


def hops(invite: Invite) -> Headers:
    """The Max-Forwards of what goes out, one less than came in (RFC 7332, section 4); () for the stack's own, 70.

    The gate has refused what has none left.
    """
    hops = invite.headers.get("max-forwards", ("",))[0]
    return (("Max-Forwards", str(min(int(hops), _MOST_HOPS) - 1)),) if _HOPS.fullmatch(hops) else ()
