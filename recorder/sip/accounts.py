"""One account of the stack a trunk: its credentials, its encryption, its registration. Owned by the sip thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pjsua2 as pj
import structlog

from recorder import native
from recorder.calls.dialing import Dialing
from recorder.calls.targets import address_in
from recorder.errors import StartError
from recorder.settings import Settings, Trunk
from recorder.settings_files import password
from recorder.sip.leg import guarded
from recorder.sip.transports import Transports, Way

_log = structlog.get_logger()

_SRTP = {
    "off": pj.PJMEDIA_SRTP_DISABLED,
    "optional": pj.PJMEDIA_SRTP_OPTIONAL,
    "required": pj.PJMEDIA_SRTP_MANDATORY,
}
_KEYING = {"sdes": pj.PJMEDIA_SRTP_KEYING_SDES, "dtls": pj.PJMEDIA_SRTP_KEYING_DTLS_SRTP}
_SESSION_TIMERS = {
    "off": pj.PJSUA_SIP_TIMER_INACTIVE,
    "supported": pj.PJSUA_SIP_TIMER_OPTIONAL,
    "required": pj.PJSUA_SIP_TIMER_REQUIRED,
}
# In the order to offer; the first one is what everybody has (RFC 4568, section 6.2).
_SUITES = (
    "AES_CM_128_HMAC_SHA1_80",
    "AES_CM_128_HMAC_SHA1_32",
    "AES_256_CM_HMAC_SHA1_80",
    "AES_256_CM_HMAC_SHA1_32",
)
_UNREGISTER_S = 2.0

OnInvite = Callable[[Any, int, str, str], None]
OnRegistered = Callable[[str, bool], None]


class Accounts:
    """The accounts of one recorder: one for each trunk's calls, one for each registration, one for everybody else.

    `on_invite(account, call_id, message, source)` and `on_registered(trunk, whether)` run inside the stack's callbacks.
    """

    def __init__(self, settings: Settings, on_invite: OnInvite, on_registered: OnRegistered) -> None:
        self._settings = settings
        self._on_invite = on_invite
        self._on_registered = on_registered
        self._own: _Account | None = None
        self._by_trunk: dict[str, _Account] = {}
        self._registrations: list[_Registration] = []

    def open(self, transports: Transports) -> None:
        """Make all accounts and begin to register. Raises StartError."""
        sip = self._settings.sip
        home = transports.names[0]
        self._own = self._make(home, None)
        for trunk in self._settings.trunks:
            self._by_trunk[trunk.name] = self._make(home, trunk)
            native.assign_account(trunk.name, self._by_trunk[trunk.name].getId())
        native.install_paths(
            [
                (str(network), self._by_trunk[trunk.name].getId(), trunk.behind_nat)
                for trunk in self._settings.trunks
                for network in trunk.sources
            ],
            self._own.getId(),
            [str(network) for network in sip.local_networks],
            transports.public_names,
            self._settings.media.address or "",
            self._settings.media.public_address or "",
        )
        for trunk in self._settings.trunks:
            if trunk.registration is not None:
                self._on_registered(trunk.name, False)
                self._registrations.append(self._register(trunk, transports))

    def close(self, endpoint: Any) -> None:
        """Take the registrations back, and drop the accounts."""
        for registration in self._registrations:
            registration.end()
        deadline = time.monotonic() + _UNREGISTER_S
        while any(one.active for one in self._registrations) and time.monotonic() < deadline:
            endpoint.libHandleEvents(10)
        self._registrations.clear()
        self._by_trunk.clear()
        self._own = None

    def aimed(self, dialing: Dialing, transports: Transports, sips: bool) -> tuple[Any, Way | None]:
        """The account that a leg goes out by, ready for it, and its way; no way when no listener fits.

        `sips` tells whether its Request-URI is one. Without a trunk in `dialing` it is the one that the target's
        address belongs to, if any.
        """
        trunk = self._trunk_of(dialing)
        account = self._by_trunk[trunk.name] if trunk is not None else self._own
        assert account is not None
        way = transports.towards(trunk.proxy if trunk is not None and trunk.proxy else dialing.target)
        if way is not None:
            native.aim(account.getId(), way.transport_id, way.ipv6, sips)
        return account, way

    def _trunk_of(self, dialing: Dialing) -> Trunk | None:
        if dialing.trunk is not None:
            return next((trunk for trunk in self._settings.trunks if trunk.name == dialing.trunk), None)
        address = address_in(dialing.target)
        if address is None:
            return None
        return next(
            (trunk for trunk in self._settings.trunks if any(address in network for network in trunk.sources)), None
        )

    def _make(self, home: str, trunk: Trunk | None) -> _Account:
        account = _Account(self._on_invite)
        account.create(self._config(f"sip:recorder@{home}", trunk), trunk is None)
        return account

    def _config(self, uri: str, trunk: Trunk | None) -> Any:
        media = self._settings.media
        config = pj.AccountConfig()
        config.idUri = uri
        config.natConfig.iceEnabled = False
        config.natConfig.contactRewriteUse = 0
        config.natConfig.viaRewriteUse = False
        config.natConfig.sdpNatRewriteUse = 0
        # Our Contact is the listener's address: a connection that we opened may be gone when the far side wants us.
        config.natConfig.contactUseSrcPort = 0
        config.natConfig.sipOutboundUse = 0
        # With this on, pjsua sends a re-INVITE of its own whenever an answer holds more than one codec.
        config.mediaConfig.lockCodecEnabled = False
        sip = self._settings.sip
        config.callConfig.timerUse = _SESSION_TIMERS[sip.session_timers]
        config.callConfig.timerSessExpiresSec = sip.session_expires_s
        config.mediaConfig.transportConfig.port = media.rtp_port_first
        config.mediaConfig.transportConfig.portRange = media.rtp_port_last - media.rtp_port_first
        config.mediaConfig.srtpSecureSignaling = 0  # whether TLS carries the keys is the trunk's own decision
        if trunk is None:
            return config
        config.mediaConfig.srtpUse = _SRTP[trunk.srtp]
        for keying in trunk.srtp_keying:
            config.mediaConfig.srtpOpt.keyings.append(_KEYING[keying])
        for suite in _SUITES:
            crypto = pj.SrtpCrypto()
            crypto.name = suite
            config.mediaConfig.srtpOpt.cryptos.append(crypto)
        if trunk.credentials is not None:
            try:
                secret = password(trunk.credentials)
            except OSError as error:
                raise StartError(
                    f"trunks: {trunk.name}: {trunk.credentials.password_file} cannot be read: {error.strerror}"
                ) from None
            # The digest's scheme and algorithm come with the challenge; 0: the data is the password in clear.
            config.sipConfig.authCreds.append(
                pj.AuthCredInfo("digest", trunk.credentials.realm, trunk.credentials.username, 0, secret)
            )
        if trunk.proxy is not None:
            config.sipConfig.proxies.append(f"<{trunk.proxy};lr>")
        return config

    def _register(self, trunk: Trunk, transports: Transports) -> _Registration:
        wanted = trunk.registration
        assert wanted is not None
        way = transports.towards(trunk.proxy or wanted.registrar)
        if way is None:
            raise StartError(f"trunks: {trunk.name}: no entry of sip.listen reaches {wanted.registrar}")
        scheme, _, rest = wanted.registrar.partition(":")
        domain = rest.rpartition("@")[2].partition(";")[0]
        config = self._config(f"{scheme}:{wanted.user}@{domain}", trunk)
        config.sipConfig.transportId = way.transport_id
        config.regConfig.registrarUri = wanted.registrar
        config.regConfig.timeoutSec = wanted.expires_s
        config.regConfig.delayBeforeRefreshSec = min(5, wanted.expires_s // 2)
        config.regConfig.retryIntervalSec = wanted.retry_s
        config.regConfig.firstRetryIntervalSec = min(1, wanted.retry_s)
        config.regConfig.randomRetryIntervalSec = wanted.retry_s // 10
        registration = _Registration(trunk.name, self._on_registered)
        registration.create(config)
        return registration


class _Account(pj.Account):  # type: ignore[misc]  # pjsua2 ships no type information
    def __init__(self, on_invite: OnInvite) -> None:
        super().__init__()
        self._on_invite = on_invite

    def onIncomingCall(self, prm: Any) -> None:
        guarded(lambda: self._on_invite(self, prm.callId, prm.rdata.wholeMsg, prm.rdata.srcAddress))


class _Registration(pj.Account):  # type: ignore[misc]  # pjsua2 ships no type information
    """An account that only registers: calls come in and go out by the trunk's other one."""

    def __init__(self, trunk: str, on_registered: OnRegistered) -> None:
        super().__init__()
        self.active = False
        self._trunk = trunk
        self._on_registered = on_registered

    def end(self) -> None:
        """Ask the registrar to forget us."""
        if self.active:
            try:
                self.setRegistration(False)
            except pj.Error as error:
                self.active = False
                _log.warning("unregister_failed", trunk=self._trunk, error=error.reason)

    def onRegState(self, prm: Any) -> None:
        guarded(lambda: self._told(int(prm.code), str(prm.reason), int(prm.expiration)))

    def _told(self, sip_status: int, phrase: str, expires_s: int) -> None:
        self.active = 200 <= sip_status < 300 and 0 < expires_s < 0xFFFFFFFF
        if 200 <= sip_status < 300:
            _log.info("registered" if self.active else "unregistered", trunk=self._trunk, expires_s=expires_s)
        else:
            _log.warning("register_failed", trunk=self._trunk, status=sip_status, phrase=phrase)
        self._on_registered(self._trunk, self.active)
