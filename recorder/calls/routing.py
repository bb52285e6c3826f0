"""Who may call, where a call goes on to, and whose account it is: rules over trunk, called and calling number."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import quote

from recorder.calls.events import Invite
from recorder.errors import ForbiddenError, NoRouteError
from recorder.identifiers import is_valid_dialog_id, is_valid_name, new_dialog_id
from recorder.settings import Account, IdentityHeaders, Match, Settings

LOOPBACK = "loopback"
_LOOPBACK_NETWORKS: tuple[IPv4Network | IPv6Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
# RFC 3261, section 25.1: what a user part may hold unescaped.
USER_SAFE = "-_.!~*'()&=+$,;?/"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose call it is and what it is called.

    `replaced` names the fields whose value off the wire was not valid, with that value.
    """

    group_id: str
    account_id: str
    dialog_id: str
    replaced: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of an INVITE: where it goes, and whether it is recorded.

    `unrecorded_because` is None for a call to be recorded, otherwise the reason in a word.
    """

    trunk: str
    target: str
    identity: Identity
    unrecorded_because: str | None


class Router:
    """The rules of one configuration, compiled."""

    def __init__(self, settings: Settings) -> None:
        self._trunks = settings.trunks
        self._routes = [(_Rule(route.match), route.target) for route in settings.routes]
        self._accounts = [(_Rule(account.match), account) for account in settings.accounts]
        self._account_by_id = {account.id: account for account in settings.accounts}

    def decide(self, invite: Invite) -> Decision:
        """Match an INVITE against the rules, first match wins.

        Raises:
            ForbiddenError: it came from an address that belongs to no trunk.
            NoRouteError: no route matches.
        """
        trunk, headers = self._trunk(invite.source)
        target = next((target for rule, target in self._routes if rule.matches(trunk, invite)), None)
        if target is None:
            raise NoRouteError(f"no route matches a call from trunk {trunk} to {invite.called!r}")
        identity, because = self._identity(trunk, headers, invite)
        user = quote(invite.called, safe=USER_SAFE)
        target = target.replace("{user}@", f"{user}@" if user else "").replace("{user}", user)
        return Decision(trunk, target, identity, because)

    def _trunk(self, source: str) -> tuple[str, IdentityHeaders]:
        try:
            address = ip_address(source)
        except ValueError:
            raise ForbiddenError(f"{source!r} is not an address") from None
        for trunk in self._trunks:
            if any(address in network for network in trunk.sources):
                return trunk.name, trunk.identity_headers
        if not self._trunks and any(address in network for network in _LOOPBACK_NETWORKS):
            return LOOPBACK, IdentityHeaders()
        raise ForbiddenError(f"{source} belongs to no trunk")

    def _identity(self, trunk: str, headers: IdentityHeaders, invite: Invite) -> tuple[Identity, str | None]:
        replaced: list[tuple[str, str]] = []

        def taken(header: str | None, field: str) -> str | None:
            values = invite.headers.get(header.lower(), ()) if header else ()
            if not values:
                return None
            valid = is_valid_dialog_id if field == "dialog_id" else is_valid_name
            if len(values) == 1 and valid(values[0]):
                return values[0]
            replaced.append((field, ", ".join(values)))
            return None

        group_id = taken(headers.group, "group_id")
        account_id = taken(headers.account, "account_id")
        dialog_id = taken(headers.dialog, "dialog_id") or new_dialog_id()
        account = self._account(trunk, invite, account_id)
        if account is None:
            because: str | None = "no_account"
        else:
            because = None if account.record else "not_enabled"
            group_id = group_id or account.group
            account_id = account_id or account.id
        identity = Identity(group_id or "unknown", account_id or "unknown", dialog_id, tuple(replaced))
        return identity, because

    def _account(self, trunk: str, invite: Invite, account_id: str | None) -> Account | None:
        named = self._account_by_id.get(account_id) if account_id else None
        if named is not None:
            return named
        return next((account for rule, account in self._accounts if rule.matches(trunk, invite)), None)


class _Rule:
    def __init__(self, match: Match) -> None:
        self._trunk = match.trunk
        self._called = re.compile(match.called) if match.called is not None else None
        self._calling = re.compile(match.calling) if match.calling is not None else None

    def matches(self, trunk: str, invite: Invite) -> bool:
        return (
            (self._trunk is None or self._trunk == trunk)
            and (self._called is None or self._called.fullmatch(invite.called) is not None)
            and (self._calling is None or self._calling.fullmatch(invite.calling) is not None)
        )
