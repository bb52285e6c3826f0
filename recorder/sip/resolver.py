"""Host names to addresses (RFC 3263): NAPTR, SRV, A and AAAA, asked on threads of their own so that no call waits.

dnspython does the asking, not the stack: its own resolver knows no hosts file, and hands each request one list of
addresses, where a call has to count, time and mark each of them by itself.
"""

from __future__ import annotations

import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random
from typing import Any

import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import structlog

from recorder.calls.targets import Address, Place, in_order

_log = structlog.get_logger()

_THREADS = 4
_MOST_OPEN = 256
_MOST_KNOWN = 2000
_MOST_ADDRESSES = 8
_LIFETIME_S = 5.0
_TRY_S = 1.5
_NEGATIVE_S = 15.0
_LONGEST_S = 3600.0
_SYSTEM_S = 60.0  # the system's own look-up (hosts file) tells no time to live
_STALE_S = 3600.0
_SERVICES = {"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp"}
_NAPTR = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls"}
_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061}

Found = Callable[[tuple[Address, ...]], None]


@dataclass(frozen=True, slots=True)
class _Server:
    """One SRV record, or what stands for it, with its addresses."""

    addresses: tuple[Address, ...]
    priority: int = 0
    weight: int = 0


@dataclass(frozen=True, slots=True)
class _Known:
    servers: tuple[_Server, ...]
    until: float


class _UnansweredError(Exception):
    """No nameserver has said whether there is such a name."""


class Resolver:
    """Looks names up, once for all who ask, and remembers them for as long as their records say.

    `post` runs a command on the sip thread, which owns everything here but the look-ups themselves. `transports` are
    those that calls can leave by; `families` the address families, 4 or 6, in the order to try them.

    What no nameserver answers any more is still known for an hour (RFC 8767); what does not exist for some seconds.
    """

    def __init__(
        self,
        post: Callable[[Callable[[], None]], None],
        nameservers: tuple[tuple[str, int], ...] = (),
        transports: tuple[str, ...] = ("udp", "tcp"),
        families: tuple[int, ...] = (4,),
        random: Random | None = None,
    ) -> None:
        self._post = post
        self._nameservers = nameservers
        self._transports = transports
        self._families = families
        self._random = random or Random()  # noqa: S311  # shares load, keeps no secret
        self._known: OrderedDict[Place, _Known] = OrderedDict()
        self._open: dict[Place, list[Found]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="dns")

    def close(self) -> None:
        """Ask no more; who still waits is not told. Any thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def look_up(self, place: Place, found: Found) -> None:
        """Have `found(addresses)` run on the sip thread, with the addresses to try in their order; () for none.

        It runs before this returns when they are known.
        """
        known = self._known.get(place)
        if known is not None and known.until > time.monotonic():
            found(self._drawn(known))
        elif place in self._open:
            self._open[place].append(found)
        elif len(self._open) >= _MOST_OPEN:
            _log.warning("name_not_looked_up", host=place.host, reason="too many at a time")
            found(())
        else:
            self._open[place] = [found]
            self._threads.submit(self._ask, place)

    def _drawn(self, known: _Known) -> tuple[Address, ...]:
        """The addresses in an order drawn anew: by priority and weight of their SRV records."""
        servers = in_order(known.servers, self._random)
        return tuple(address for server in servers for address in server.addresses)[:_MOST_ADDRESSES]

    def _learn(self, place: Place, known: _Known | None) -> None:
        if known is None:
            now = time.monotonic()
            old = self._known.get(place)
            fresh = old is not None and old.servers and old.until + _STALE_S > now
            known = _Known(old.servers if old is not None and fresh else (), now + _NEGATIVE_S)
            _log.warning("name_unanswered", host=place.host, used=len(known.servers))
        self._known[place] = known
        self._known.move_to_end(place)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        for found in self._open.pop(place):
            found(self._drawn(known))

    # On a thread of the look-ups ----------------------------------------------------------------------------------

    def _ask(self, place: Place) -> None:
        known: _Known | None = None
        try:
            lookup = _Lookup(self._nameservers, self._transports, self._families)
            servers = lookup.servers(place)
            now = time.monotonic()
            known = _Known(servers, min(lookup.until, now + _LONGEST_S) if servers else now + _NEGATIVE_S)
        except _UnansweredError:
            pass
        except Exception:  # noqa: BLE001  # whoever waits for this name must hear of it
            _log.exception("name_look_up_failed", host=place.host)
        self._post(lambda: self._learn(place, known))


class _Lookup:
    """One name's way through the records. `until` is when the first of them expires."""

    def __init__(self, nameservers: Iterable[tuple[str, int]], transports: tuple[str, ...], families: Any) -> None:
        self.until = time.monotonic() + _LONGEST_S
        self._transports = transports
        self._families = families
        self._system = not nameservers
        # Made anew each time: the system's list of nameservers changes while the recorder runs.
        self._resolver = dns.resolver.Resolver(configure=self._system)
        if not self._system:
            self._resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in nameservers]
        self._resolver.timeout = _TRY_S
        self._resolver.lifetime = _LIFETIME_S

    def servers(self, place: Place) -> tuple[_Server, ...]:
        """RFC 3263, sections 4.1 and 4.2."""
        if place.port is not None:
            transport = place.transport or "udp"
            return self._direct(place.host, place.port, transport)
        for transport, service in self._services(place):
            if found := self._srv(service, transport):
                return found
        transport = place.transport or "udp"
        return self._direct(place.host, _PORTS[transport], transport)

    def _services(self, place: Place) -> list[tuple[str, str]]:
        if place.transport is not None:
            return [(place.transport, f"{_SERVICES[place.transport]}.{place.host}")]
        named = sorted(
            (record.order, record.preference, _NAPTR[service], record.replacement.to_text(omit_final_dot=True))
            for record in self._records(place.host, dns.rdatatype.NAPTR)
            if (service := record.service.decode("ascii", "replace").upper()) in _NAPTR and record.flags.lower() == b"s"
        )
        listed = [(transport, name) for _, _, transport, name in named]
        usable = listed or [(transport, f"{service}.{place.host}") for transport, service in _SERVICES.items()]
        return [(transport, name) for transport, name in usable if transport in self._transports]

    def _srv(self, name: str, transport: str) -> tuple[_Server, ...]:
        return tuple(
            _Server(
                self._addresses(record.target.to_text(True), record.port, transport), record.priority, record.weight
            )
            for record in self._records(name, dns.rdatatype.SRV)
            if record.target != dns.name.root  # "decidedly not available" (RFC 2782)
        )

    def _direct(self, host: str, port: int, transport: str) -> tuple[_Server, ...]:
        addresses = self._addresses(host, port, transport)
        return (_Server(addresses),) if addresses else ()

    def _addresses(self, host: str, port: int, transport: str) -> tuple[Address, ...]:
        kinds = {4: dns.rdatatype.A, 6: dns.rdatatype.AAAA}
        found = [record.address for family in self._families for record in self._records(host, kinds[family])]
        if not found and self._system:
            found = self._of_the_system(host)
        return tuple(Address(address, port, transport) for address in found)

    def _of_the_system(self, host: str) -> list[str]:
        """What the hosts file, or whatever else the system asks, has for a name that is in no DNS."""
        try:
            infos = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            return []
        self.until = min(self.until, time.monotonic() + _SYSTEM_S)
        found = dict.fromkeys(str(info[4][0]) for info in infos)
        return [address for address in found if ip_address(address.partition("%")[0]).version in self._families]

    def _records(self, name: str, kind: dns.rdatatype.RdataType) -> list[Any]:
        try:
            answer = self._resolver.resolve(name, kind, search=self._system)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.resolver.YXDOMAIN):
            return []
        except (dns.resolver.NoNameservers, dns.exception.Timeout, OSError) as error:
            if self._system and kind in (dns.rdatatype.NAPTR, dns.rdatatype.SRV):
                return []  # some routers' resolvers fail on what they do not know; the address may still be had
            raise _UnansweredError(str(error)) from None
        except (dns.exception.DNSException, UnicodeError):  # no name at all
            return []
        self.until = min(self.until, time.monotonic() + max(1.0, answer.expiration - time.time()))
        return list(answer)
