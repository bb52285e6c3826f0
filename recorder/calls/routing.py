"""Where a call goes on to, and whose account it is: rules over trunk, called and calling number."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from random import Random
from urllib.parse import quote

from recorder.calls.events import Invite
from recorder.calls.health import key_of
from recorder.calls.targets import Target, in_order, lookup_of
from recorder.errors import NoRouteError
from recorder.identifiers import is_valid_dialog_id, is_valid_name, new_dialog_id
from recorder.settings import Account, IdentityHeaders, Match, NumberRewrite, Route, Settings

# RFC 3261, section 25.1: what a user part may hold unescaped.
USER_SAFE = "-_.!~*'()&=+$,;?/"
_NO_HEADERS = IdentityHeaders()


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

    Attributes:
        targets: where to, in the order to try them, at least one.
        called, calling: the numbers that the B leg's INVITE says; rewritten if the route says so.
        unrecorded_because: None for a call to be recorded, otherwise the reason in a word.
        account: whose call it is, if it is anyone's.
        follow_redirects: whether a 3xx of a target is followed, and not handed back.
    """

    trunk: str
    route: str
    targets: tuple[Target, ...]
    called: str
    calling: str
    identity: Identity
    unrecorded_because: str | None
    follow_redirects: bool = False
    account: Account | None = None


class Router:
    """The rules of one configuration, compiled. `random` draws among targets of one priority."""

    def __init__(self, settings: Settings, random: Random | None = None) -> None:
        self._random = random or Random()  # noqa: S311  # shares load, keeps no secret
        self._headers = {trunk.name: trunk.identity_headers for trunk in settings.trunks}
        self._transferring = frozenset(trunk.name for trunk in settings.trunks if trunk.transfer == "allow")
        proxied = frozenset(trunk.name for trunk in settings.trunks if trunk.proxy is not None)
        self._routes = [_Path(route, proxied) for route in settings.routes]
        self._accounts = [(_Rule(account.match), account) for account in settings.accounts]
        self._account_by_id = {account.id: account for account in settings.accounts}

    def decide(self, invite: Invite) -> Decision:
        """Match an INVITE against the rules, first match wins.

        Raises:
            NoRouteError: no route matches.
        """
        trunk = invite.trunk
        headers = self._headers.get(trunk, _NO_HEADERS)
        path = next((path for path in self._routes if path.rule.matches(trunk, invite)), None)
        if path is None:
            raise NoRouteError(f"no route matches a call from trunk {trunk} to {invite.called!r}")
        identity, because, account = self._identity(trunk, headers, invite)
        called, calling = path.called(invite.called), path.calling(invite.calling)
        user = quote(called, safe=USER_SAFE)
        targets = tuple(
            replace(target, uri=target.uri.replace("{user}@", f"{user}@" if user else "").replace("{user}", user))
            for target in in_order(path.targets, self._random)
        )
        return Decision(trunk, path.name, targets, called, calling, identity, because, path.follows, account)

    def may_transfer(self, trunk: str) -> bool:
        """Whether calls of this trunk may be transferred."""
        return trunk in self._transferring

    def _identity(
        self, trunk: str, headers: IdentityHeaders, invite: Invite
    ) -> tuple[Identity, str | None, Account | None]:
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
        return identity, because, account

    def _account(self, trunk: str, invite: Invite, account_id: str | None) -> Account | None:
        named = self._account_by_id.get(account_id) if account_id else None
        if named is not None:
            return named
        return next((account for rule, account in self._accounts if rule.matches(trunk, invite)), None)


def probed_targets(settings: Settings) -> dict[str, tuple[str, float]]:
    """The targets that OPTIONS are sent to: by `key_of`, the URI to send them to and the seconds between two."""
    proxies = {trunk.name: trunk.proxy for trunk in settings.trunks}
    found: dict[str, tuple[str, float]] = {}
    for route in settings.routes:
        for target in route.all_targets:
            interval_s = target.options_interval_s or settings.sip.options_interval_s
            if interval_s is not None:
                key = key_of(target.uri)
                proxy = proxies.get(target.trunk) if target.trunk is not None else None
                found[key] = (proxy or key, min(interval_s, found[key][1] if key in found else interval_s))
    return found


class _Rule:
    def __init__(self, match: Match) -> None:
        self._trunk = match.trunk
        self._called = re.compile(match.called) if match.called is not None else None
        self._calling = re.compile(match.calling) if match.calling is not None else None
        self._called_prefix = match.called_prefix or ""
        self._calling_prefix = match.calling_prefix or ""

    def matches(self, trunk: str, invite: Invite) -> bool:
        return (
            (self._trunk is None or self._trunk == trunk)
            and invite.called.startswith(self._called_prefix)
            and invite.calling.startswith(self._calling_prefix)
            and (self._called is None or self._called.fullmatch(invite.called) is not None)
            and (self._calling is None or self._calling.fullmatch(invite.calling) is not None)
        )


class _Path:
    """A route, compiled."""

    def __init__(self, route: Route, proxied: frozenset[str]) -> None:
        self.name = route.name
        self.follows = route.redirects == "follow"
        self.rule = _Rule(route.match)
        self.called = _Rewriter(route.rewrite.called)
        self.calling = _Rewriter(route.rewrite.calling)
        self.targets = tuple(
            Target(
                target.uri,
                target.priority,
                target.weight,
                target.trunk,
                target.setup_timeout_s,
                # What goes by a trunk's proxy goes to its address, not to the URI's.
                lookup_of(target.uri.replace("{user}", "user")) if target.trunk not in proxied else None,
            )
            for target in route.all_targets
        )


class _Rewriter:
    """What a dial plan does to a number: replace what a pattern matches, take digits off its front, put others there.

    A number that `pattern` does not match as a whole, and one that is not there, stay as they are.
    """

    def __init__(self, rewrite: NumberRewrite) -> None:
        self._pattern = re.compile(rewrite.pattern) if rewrite.pattern is not None else None
        self._replacement = rewrite.replacement
        self._strip = rewrite.strip
        self._prefix = rewrite.prefix

    def __call__(self, number: str) -> str:
        if not number:
            return number
        if self._pattern is not None:
            found = self._pattern.fullmatch(number)
            if found is None:
                return number
            number = re.sub(r"\\([1-9])", lambda one: found[int(one[1])] or "", self._replacement)
        return self._prefix + number[self._strip :]
