"""The gate's table, made from the settings, and what it has to tell. Owned by the sip thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_network

import structlog

from recorder import native
from recorder.calls.events import LOOPBACK, Invite
from recorder.errors import InvalidRequestError, StartError
from recorder.settings import Settings, Trunk
from recorder.settings_files import password
from recorder.sip import translate

_log = structlog.get_logger()

REPORT_S = 1.0
_LOOPBACK_NETWORKS = ["127.0.0.0/8", "::1/128"]
_ALGORITHMS = {"md5": "MD5", "sha-256": "SHA-256"}

OnRefused = Callable[[Invite, int, str], None]
OnTurnedAway = Callable[[str, int], None]


class Gate:
    """Who may call.

    `on_refused(invite, status, phrase)` is told of each INVITE of a trunk that was answered with an error before it
    became a call, `on_turned_away(reason, requests)` of requests that belong to no trunk.
    """

    def __init__(self, settings: Settings, on_refused: OnRefused, on_turned_away: OnTurnedAway) -> None:
        self._settings = settings
        self._on_refused = on_refused
        self._on_turned_away = on_turned_away
        self._counts: dict[str, int] = {}

    def install(self) -> None:
        """Close it to all but the trunks. After `Endpoint.libInit`. Raises StartError."""
        trunks = [_entry(trunk) for trunk in self._settings.trunks]
        if not trunks:
            trunks = [native.GateTrunk(LOOPBACK, _LOOPBACK_NETWORKS, [], "", "", "", [])]
        native.install_gate(trunks, self._settings.sip.strangers == "reject")

    def poll(self) -> None:
        """Pass on the INVITEs that were refused since."""
        for refused in native.take_refused_invites():
            try:
                invite = translate.invite(refused.message, refused.source, time.time_ns() // 1_000_000, refused.trunk)
            except InvalidRequestError as error:
                _log.warning("invite_unreadable", source=refused.source, error=str(error))
                continue
            self._on_refused(invite, refused.status, translate.readable(refused.phrase))

    def report(self) -> None:
        """Count and log those who were turned away since. Every REPORT_S: the log keeps to once a minute by itself."""
        for stranger in native.take_strangers():
            _log.warning(
                "stranger",
                source=stranger.source or "many",
                reason=stranger.reason,
                method=stranger.method,
                user_agent=stranger.user_agent,
                requests=stranger.requests,
            )
        counts = native.gate_counts()
        for reason, count in counts.items():
            if count > self._counts.get(reason, 0):
                self._on_turned_away(reason, count - self._counts.get(reason, 0))
        self._counts = counts


def _entry(trunk: Trunk) -> native.GateTrunk:
    sources = [str(ip_network(source)) for source in trunk.sources]
    names = list(trunk.client_certificates)
    digest = trunk.digest
    if digest is None:
        return native.GateTrunk(trunk.name, sources, names, "", "", "", [])
    try:
        secret = password(digest)
    except OSError as error:
        raise StartError(f"trunks: {trunk.name}: {digest.password_file} cannot be read: {error.strerror}") from None
    algorithms = [_ALGORITHMS[algorithm] for algorithm in digest.algorithms]
    return native.GateTrunk(trunk.name, sources, names, digest.username, secret, digest.realm, algorithms)
