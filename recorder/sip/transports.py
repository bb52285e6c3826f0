"""Listeners: UDP, TCP and TLS, by IPv4 and IPv6, and which of them a message to a target leaves through.

Owned by the sip thread.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pjsua2 as pj

from recorder.calls.targets import address_in, transport_of
from recorder.errors import StartError
from recorder.settings import Listener, Settings

_KINDS = {
    ("udp", 4): pj.PJSIP_TRANSPORT_UDP,
    ("udp", 6): pj.PJSIP_TRANSPORT_UDP6,
    ("tcp", 4): pj.PJSIP_TRANSPORT_TCP,
    ("tcp", 6): pj.PJSIP_TRANSPORT_TCP6,
    ("tls", 4): pj.PJSIP_TRANSPORT_TLS,
    ("tls", 6): pj.PJSIP_TRANSPORT_TLS6,
}
# Forward secrecy and authenticated encryption only (RFC 9325, section 4.2); what TLS 1.3 has is all of that kind.
_CIPHERS = (0xC02B, 0xC02C, 0xCCA9, 0xC02F, 0xC030, 0xCCA8)
_SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, slots=True)
class Way:
    """How a target is reached: the stack's id of the listener, the `host:port` to show, whether audio is IPv6."""

    transport_id: int
    home: str
    ipv6: bool


@dataclass(frozen=True, slots=True)
class _Bound:
    transport_id: int
    settings: Listener
    address: IPv4Address | IPv6Address
    local_name: str  # host:port, as the stack shows it

    @property
    def port(self) -> str:
        return self.local_name.rpartition(":")[2]


class Transports:
    """The listeners of one recorder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bound: list[_Bound] = []

    @property
    def names(self) -> tuple[str, ...]:
        """`host:port` of each listener, in the order of the settings."""
        return tuple(bound.local_name for bound in self._bound)

    @property
    def public_names(self) -> list[tuple[int, str, int]]:
        """(listener's id, public address, public port or 0) of each listener that has one."""
        return [
            (bound.transport_id, bound.settings.public_address, bound.settings.public_port or 0)
            for bound in self._bound
            if bound.settings.public_address is not None
        ]

    def open(self, endpoint: Any) -> None:
        """Bind all listeners. Raises StartError that names the one that cannot be had."""
        for listener in self._settings.sip.listen:
            config = pj.TransportConfig()
            config.port = listener.port
            config.boundAddress = listener.host
            if listener.transport == "tls":
                self._secure(config.tlsConfig)
            address = ip_address(listener.host)
            try:
                kind = _KINDS[listener.transport, address.version]
                transport_id = endpoint.transportCreate(kind, config)
            except pj.Error as error:
                raise StartError(
                    f"cannot listen for SIP on {listener.transport} {listener.host} port {listener.port}: "
                    f"{error.reason}; end what holds the port, or change sip.listen"
                ) from None
            host, _, port = str(endpoint.transportGetInfo(transport_id).localName).rpartition(":")
            name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            self._bound.append(_Bound(transport_id, listener, address, name))

    def towards(self, uri: str) -> Way | None:
        """The listener for a request to `uri`; None when no listener has its transport and address family.

        Of several it is the one bound to the address that the kernel would send from, then one bound to all addresses,
        then the first. A host name is looked up in the family of the first listener of its transport.
        """
        target = address_in(uri)
        fitting = [bound for bound in self._bound if bound.settings.transport == transport_of(uri)]
        if target is not None:
            fitting = [bound for bound in fitting if bound.address.version == target.version]
        if not fitting:
            return None
        # Asking the kernel takes a socket: not for the sake of the only answer there is.
        alone = len(fitting) == 1 and not fitting[0].address.is_unspecified
        source = None if alone else _source_towards(target)
        bound = next(
            (bound for bound in fitting if bound.address == source),
            next((bound for bound in fitting if bound.address.is_unspecified), fitting[0]),
        )
        return Way(bound.transport_id, self._home(bound, target, source), bound.address.version == 6)

    def _home(self, bound: _Bound, target: Any, source: IPv4Address | IPv6Address | None) -> str:
        listener = bound.settings
        if (
            listener.public_address is not None
            and target is not None
            and not any(target in network for network in self._settings.sip.local_networks)
        ):
            return f"{_in_uri(ip_address(listener.public_address))}:{listener.public_port or bound.port}"
        if bound.address.is_unspecified and source is not None:
            return f"{_in_uri(source)}:{bound.port}"
        return bound.local_name

    def _secure(self, config: Any) -> None:
        tls = self._settings.sip.tls
        config.certFile, config.privKeyFile = str(tls.certificate), str(tls.private_key)
        config.password = tls.private_key_password or ""
        config.CaListFile = str(tls.ca or ssl.get_default_verify_paths().cafile or _SYSTEM_CA)
        config.proto = pj.PJ_SSL_SOCK_PROTO_TLS1_2 | pj.PJ_SSL_SOCK_PROTO_TLS1_3
        for cipher in _CIPHERS:
            config.ciphers.append(cipher)
        config.verifyServer = tls.verify_server
        config.verifyClient = config.requireClientCert = tls.verify_client


def _source_towards(target: IPv4Address | IPv6Address | None) -> IPv4Address | IPv6Address | None:
    """The address that the kernel would send from; nothing is sent to find out."""
    if target is None:
        return None
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(target), 9))
        except OSError:
            return None
        return ip_address(probe.getsockname()[0])


def _in_uri(address: IPv4Address | IPv6Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)
