"""What no single key can tell: settings that contradict each other, and settings that are surely not meant.

`contradictions` stop the recorder; `warnings` are for `recorder check-config` and the log at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Network, ip_address
from itertools import combinations
from typing import TYPE_CHECKING, Any

from recorder.calls.targets import transport_of
from recorder.settings_schema import Fault, Path, dotted

if TYPE_CHECKING:
    from recorder.settings import Listener, Match, Settings

MAX_ACCOUNTS = 256
"""PJSUA_MAX_ACC in scripts/pjproject/config_site.h: one a trunk, one more where it registers, one of our own."""
PACKETS_LATE_MS = 220
"""How late a packet may come and still be recorded, and what is allowed on top: HOLD_S and TOLERANCE_S of take."""
LONGEST_HOLD_BACK_MS = 1000
"""What a killed process may lose of a recording."""
RTP_PORTS_PER_CALL = 4
"""Two legs, each with a port for RTP and one for RTCP (RFC 3550, section 11)."""


def contradictions(settings: Settings, broken: frozenset[str] = frozenset()) -> list[Fault]:
    """What cannot be together. Checks that need a section named in `broken` (it has faults of its own) are left out."""
    checks: tuple[tuple[Callable[[Settings], Iterator[Fault]], set[str]], ...] = (
        (_listener_clashes, {"sip"}),
        (_http_clashes, {"sip", "http"}),
        (_rtp_clashes, {"sip", "media"}),
        (_tls_incomplete, {"sip"}),
        (_public_families, {"sip"}),
        (_too_many_trunks, {"trunks"}),
        (_keys_not_optional, {"trunks"}),
        (_calls_beyond_ports, {"sip", "media"}),
        (lambda it: _repeated("trunks", ((entry.name, "name") for entry in it.trunks)), {"trunks"}),
        (lambda it: _repeated("routes", ((entry.name, "name") for entry in it.routes)), {"routes"}),
        (lambda it: _repeated("accounts", ((entry.id, "id") for entry in it.accounts)), {"accounts"}),
        (lambda it: _repeated("http.tokens", ((entry.name, "name") for entry in it.http.tokens)), {"http"}),
        (lambda it: _repeated("http.tokens", ((entry.sha256, "sha256") for entry in it.http.tokens)), {"http"}),
        (lambda it: _unknown_trunks(it, "routes", it.routes), {"trunks", "routes"}),
        (lambda it: _unknown_trunks(it, "accounts", it.accounts), {"trunks", "accounts"}),
        (_unknown_target_trunks, {"trunks", "routes"}),
    )
    return [fault for check, needs in checks if not needs & broken for fault in check(settings)]


def warnings(settings: Settings) -> list[str]:
    """What is allowed and most likely not meant, one line each: `key.path: what happens; what to do`."""
    return [
        f"{dotted(path)}: {text}"
        for check in (
            _calls_that_go_nowhere,
            _never_matched,
            _recording_off,
            _doors,
            _certificates_unasked,
            _missing_transports,
            _long_hold_back,
        )
        for path, text in check(settings)
    ]


# Contradictions -------------------------------------------------------------------------------------------------------


def _listener_clashes(settings: Settings) -> Iterator[Fault]:
    for (first, one), (second, two) in combinations(enumerate(settings.sip.listen), 2):
        if _protocol(one) == _protocol(two) and _overlap(one.host, one.port, two.host, two.port):
            yield (
                ("sip", "listen", second, "port"),
                f"{two.transport} {two.host} port {two.port} is taken by sip.listen.{first} already",
            )


def _http_clashes(settings: Settings) -> Iterator[Fault]:
    for position, one in enumerate(settings.sip.listen):
        if _protocol(one) == "tcp" and _overlap(one.host, one.port, settings.http.host, settings.http.port):
            yield (
                ("http", "port"),
                f"port {settings.http.port} is taken by sip.listen.{position} ({one.transport}) already",
            )


def _rtp_clashes(settings: Settings) -> Iterator[Fault]:
    media = settings.media
    for position, one in enumerate(settings.sip.listen):
        if one.transport == "udp" and media.rtp_port_first <= one.port <= media.rtp_port_last:
            yield (
                ("sip", "listen", position, "port"),
                f"port {one.port} is among the RTP ports, {media.rtp_port_first} to {media.rtp_port_last}; move one",
            )


def _protocol(listener: Listener) -> str:
    return "udp" if listener.transport == "udp" else "tcp"


def _tls_incomplete(settings: Settings) -> Iterator[Fault]:
    tls = settings.sip.tls
    for position, one in enumerate(settings.sip.listen):
        if one.transport == "tls" and (tls.certificate is None or tls.private_key is None):
            yield (
                ("sip", "listen", position, "transport"),
                "tls needs sip.tls.certificate and sip.tls.private_key; name the files",
            )
            break
    if tls.verify_client and tls.ca is None:
        yield (
            ("sip", "tls", "verify_client"),
            "needs sip.tls.ca, the authority whose certificates may call: by the system's list anybody's would do",
        )


def _public_families(settings: Settings) -> Iterator[Fault]:
    for position, one in enumerate(settings.sip.listen):
        if one.public_address and ip_address(one.public_address).version != ip_address(one.host).version:
            yield (
                ("sip", "listen", position, "public_address"),
                f"{one.public_address} and host {one.host} must both be IPv4, or both IPv6",
            )
        if one.public_port is not None and one.public_address is None:
            yield ("sip", "listen", position, "public_port"), "needs public_address beside it"


def _too_many_trunks(settings: Settings) -> Iterator[Fault]:
    accounts = 1
    for position, trunk in enumerate(settings.trunks):
        accounts += 1 if trunk.registration is None else 2
        if accounts > MAX_ACCOUNTS:
            yield (
                ("trunks", position),
                (
                    f"there is no room for this trunk: the SIP stack takes {MAX_ACCOUNTS} accounts, one a trunk, one "
                    "more for each that registers, and one of its own; put trunks that are treated alike together"
                ),
            )
            break


def _calls_beyond_ports(settings: Settings) -> Iterator[Fault]:
    calls, media = settings.sip.max_calls, settings.media
    ports = media.rtp_port_last - media.rtp_port_first + 1
    if calls * RTP_PORTS_PER_CALL > ports:
        yield (
            ("sip", "max_calls"),
            (
                f"{calls} calls take {calls * RTP_PORTS_PER_CALL} ports ({RTP_PORTS_PER_CALL} a call: RTP and RTCP of "
                f"two legs), but media.rtp_port_first {media.rtp_port_first} to rtp_port_last {media.rtp_port_last} "
                f"are {ports}, enough for {ports // RTP_PORTS_PER_CALL} calls; widen that range, or lower this"
            ),
        )


def _repeated(where: str, labels: Iterable[tuple[str, str]]) -> Iterator[Fault]:
    seen: dict[str, int] = {}
    for position, (label, key) in enumerate(labels):
        path: Path = (*where.split("."), position, key)
        if label in seen:
            what = "the same token" if key == "sha256" else repr(label)
            yield path, f"{what} is there twice, in {where}.{seen[label]} too; each entry needs its own"
        seen.setdefault(label, position)


def _keys_not_optional(settings: Settings) -> Iterator[Fault]:
    for position, trunk in enumerate(settings.trunks):
        if trunk.srtp == "optional" and trunk.srtp_keying[0] != "sdes":
            yield (
                ("trunks", position, "srtp_keying"),
                "no DTLS offer is answered in plain; with srtp: optional put sdes first",
            )


def _unknown_trunks(settings: Settings, kind: str, entries: Iterable[Any]) -> Iterator[Fault]:
    known = dict.fromkeys(trunk.name for trunk in settings.trunks)
    for position, entry in enumerate(entries):
        if entry.match.trunk is not None and entry.match.trunk not in known:
            yield (
                (kind, position, "match", "trunk"),
                f"there is no trunk {entry.match.trunk!r}; trunks has {', '.join(known) or 'none'}",
            )


def _unknown_target_trunks(settings: Settings) -> Iterator[Fault]:
    known = dict.fromkeys(trunk.name for trunk in settings.trunks)
    for position, route in enumerate(settings.routes):
        for place, target in enumerate(route.targets):
            if target.trunk is not None and target.trunk not in known:
                yield (
                    ("routes", position, "targets", place, "trunk"),
                    f"there is no trunk {target.trunk!r}; trunks has {', '.join(known) or 'none'}",
                )


def _overlap(host: str, port: int, other_host: str, other_port: int) -> bool:
    """Whether two sockets of one protocol would want the same port. Port 0 is any free one."""
    one, other = ip_address(host), ip_address(other_host)
    return port == other_port != 0 and (
        one == other or (one.version == other.version and (one.is_unspecified or other.is_unspecified))
    )


# Warnings -------------------------------------------------------------------------------------------------------------


def _calls_that_go_nowhere(settings: Settings) -> Iterator[Fault]:
    if not settings.routes:
        yield ("routes",), "there are none, so every call is answered 404; add one with the target to send calls on to"
    open_to = [listener.host for listener in settings.sip.listen if not ip_address(listener.host).is_loopback]
    if open_to and not settings.trunks:
        yield (
            ("trunks",),
            (
                f"there are none, so calls are taken from this machine only (others get 403), though sip.listen has "
                f"{open_to[0]}; add a trunk with the addresses that may call"
            ),
        )


def _never_matched(settings: Settings) -> Iterator[Fault]:
    """The first match wins, so what stands behind a rule that takes every call is dead."""
    by_header = any(trunk.identity_headers.account for trunk in settings.trunks)
    kinds: list[tuple[str, list[tuple[str, Match]]]] = [("routes", [(it.name, it.match) for it in settings.routes])]
    if not by_header:
        kinds.append(("accounts", [(it.id, it.match) for it in settings.accounts]))
    for kind, entries in kinds:
        for position, (label, match) in enumerate(entries[:-1]):
            if not match.model_dump(exclude_none=True):
                text = f"{label} takes every call, so none gets to what is behind it; the first match wins: put it last"
                yield (kind, position, "match"), text
                break
    before: list[tuple[str, Any]] = []
    for position, trunk in enumerate(settings.trunks):
        for place, network in enumerate(trunk.sources):
            for name, wider in before:
                if _within(network, wider):
                    yield (
                        ("trunks", position, "sources", place),
                        (
                            f"{network} belongs to trunk {name} already, by its {wider}; the first match wins: put "
                            "the narrower one first"
                        ),
                    )
        before += [(trunk.name, network) for network in trunk.sources]


def _recording_off(settings: Settings) -> Iterator[Fault]:
    if not any(account.record for account in settings.accounts):
        yield ("accounts",), "none has record: true, so nothing is recorded; recording is off unless an account says so"


def _doors(settings: Settings) -> Iterator[Fault]:
    http = settings.http
    if not http.tokens:
        reach = "" if ip_address(http.host).is_loopback else f", though {http.host} is there for others to reach"
        yield (
            ("http", "tokens"),
            f"there are none, so nobody can search or listen (the API answers 401){reach}; `recorder token` makes one",
        )
    if settings.sip.log_messages:
        yield (
            ("sip", "log_messages"),
            (
                "whole SIP messages go to the log, with numbers, names and digits pressed during the call; turn it off "
                "when done"
            ),
        )


def _certificates_unasked(settings: Settings) -> Iterator[Fault]:
    for position, trunk in enumerate(settings.trunks):
        if trunk.client_certificates and not settings.sip.tls.verify_client:
            yield (
                ("trunks", position, "client_certificates"),
                "nobody is asked for a certificate, so that none of its calls gets in; set sip.tls.verify_client: true",
            )


def _missing_transports(settings: Settings) -> Iterator[Fault]:
    transports = {listener.transport for listener in settings.sip.listen}
    for path, uri in _target_uris(settings):
        if (transport := transport_of(uri)) not in transports:
            asks = f"{uri} asks for {transport.upper()}"
            yield path, f"{asks}, but sip.listen has no {transport} entry, so that it cannot be reached; add one"


def _long_hold_back(settings: Settings) -> Iterator[Fault]:
    guards = (account.redaction.guard_before_ms for account in settings.accounts)
    before_ms = max(settings.redaction.guard_before_ms, *(guard or 0 for guard in guards), 0)
    held_ms = before_ms + PACKETS_LATE_MS + settings.recording.block_ms
    if held_ms > LONGEST_HOLD_BACK_MS:
        yield (
            ("recording", "block_ms"),
            (
                f"up to {held_ms} ms of a call are not on the disk yet ({settings.recording.block_ms}, redaction."
                f"guard_before_ms {before_ms} and {PACKETS_LATE_MS} for late packets), and are lost when the process "
                f"is killed; at most {LONGEST_HOLD_BACK_MS} ms are meant to be: lower one of them"
            ),
        )


def _target_uris(settings: Settings) -> Iterator[Fault]:
    """Every URI that calls may be sent to, with its place."""
    for position, route in enumerate(settings.routes):
        if route.target is not None:
            yield ("routes", position, "target"), route.target
        for place, target in enumerate(route.targets):
            yield ("routes", position, "targets", place, "uri"), target.uri
    for position, trunk in enumerate(settings.trunks):
        if trunk.proxy is not None:
            yield ("trunks", position, "proxy"), trunk.proxy
        if trunk.registration is not None:
            yield ("trunks", position, "registration", "registrar"), trunk.registration.registrar


def _within(network: Any, wider: Any) -> bool:
    same_version = isinstance(network, IPv4Network) == isinstance(wider, IPv4Network)
    return same_version and bool(network.subnet_of(wider))
