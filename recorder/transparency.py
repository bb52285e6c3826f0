"""What each leg lets the other know: names, numbers and headers go across, addresses and Call-IDs do not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

import structlog

from recorder.calls.dialing import Dialing
from recorder.calls.events import Invite
from recorder.calls.routing import USER_SAFE, Decision
from recorder.calls.targets import Target
from recorder.metrics import Metrics
from recorder.settings import Settings
from recorder.sip import headers, translate
from recorder.sip.headers import Headers, Passing

_log = structlog.get_logger()

_HOPS = re.compile(r"0{0,7}[1-9][0-9]{0,2}", re.ASCII)
_MOST_HOPS = 255  # RFC 3261, section 20.22


class Transparency:
    """The rules of one configuration, compiled."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        sip = settings.sip
        self._metrics = metrics
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
            headers=(*_hops(invite), *self._selected(passing, invite.fields, home, far)),
        )

    def across(self, picked: Iterable[tuple[str, str]], trunk: str, home: str, to: str) -> Headers:
        """What of the headers `picked` from a message goes on to the other leg, whose far end is at the URI `to`."""
        passing = self._of_trunk.get(trunk, self._common)
        return self._selected(passing, picked, home, headers.host_and_port_of(to))

    def _selected(self, passing: Passing, fields: Iterable[tuple[str, str]], home: str, target: str) -> Headers:
        passed = passing.select(fields, home=home, target=target)
        if passed.dropped:
            self._metrics.headers_dropped.inc(len(passed.dropped))
            _log.warning("headers_dropped", count=len(passed.dropped), names=sorted(set(passed.dropped))[:5])
        return passed.headers

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


def _hops(invite: Invite) -> Headers:
    """The Max-Forwards of what goes out, one less than came in (RFC 7332, section 4); () for the stack's own, 70.

    The gate has refused what has none left.
    """
    hops = invite.headers.get("max-forwards", ("",))[0]
    return (("Max-Forwards", str(min(int(hops), _MOST_HOPS) - 1)),) if _HOPS.fullmatch(hops) else ()
