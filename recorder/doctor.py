"""What this machine has and lacks: versions, limits and codecs, each fault with its remedy (`recorder doctor`)."""

from __future__ import annotations

import contextlib
import importlib
import platform
import re
import resource
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recorder import __version__
from recorder.settings import Settings

Verdict = Literal["ok", "note", "missing"]

_BOOTSTRAP = "run scripts/bootstrap"
_DESCRIPTORS_PER_CALL = 4  # two legs, each a socket for RTP and one for RTCP
_DESCRIPTORS_BESIDE_CALLS = 200
_LEGS_PER_CALL = 2
_BRIDGE_PORTS_PER_CALL = 4  # two legs, two taps
_RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024  # PJSIP_UDP_SO_RCVBUF_SIZE in scripts/pjproject/config_site.h
_RECEIVE_BUFFER_LIMIT = Path("/proc/sys/net/core/rmem_max")
_NEEDED_CODECS = ("PCMU", "PCMA")
_SIPP_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    Attributes:
        topic: the heading it stands under. name, value: what, and what was found.
        verdict: `missing` is essential; with a `note` the recorder runs, but not all of it or not at full load.
        remedy: what to do about it; "" when it is well.
    """

    topic: str
    name: str
    value: str
    verdict: Verdict = "ok"
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Whether the recorder can work with this as it is."""
        return self.verdict != "missing"


def report(settings: Settings | None = None, codecs: Callable[[], Iterable[str]] | None = None) -> list[Check]:
    """Look at everything. Raises nothing: what cannot be looked at is reported as missing.

    Args:
        settings: what the limits are measured against; the defaults when not given.
        codecs: lists the codecs of the SIP stack, each as `name/rate/channels`; by default `recorder.sip` is asked.
    """
    native, failure = _load("recorder.native")
    calls = (settings or Settings()).sip.max_calls
    return [
        *_versions(native, failure),
        *_limits(native, calls),
        *_transports(native),
        *_codecs(codecs or _codecs_of_the_stack),
    ]


def render(checks: Sequence[Check]) -> str:
    """The report as text: a block a topic, a line a check, its remedy below it, the sum at the end."""
    lines: list[str] = []
    width = max((len(check.name) for check in checks), default=0)
    topic = None
    for check in checks:
        if check.topic != topic:
            topic = check.topic
            lines += ["", topic] if lines else [topic]
        lines.append(f"  {check.verdict:7}  {check.name:{width}}  {check.value}")
        if check.remedy:
            lines.append(f"  {'':7}  {'':{width}}  -> {check.remedy}")
    missing = [check.name for check in checks if not check.ok]
    lines += ["", f"Missing: {', '.join(missing)}." if missing else "Nothing essential is missing."]
    return "\n".join(lines)


def exit_code(checks: Sequence[Check]) -> int:
    """0 when nothing essential is missing, else 1."""
    return 0 if all(check.ok for check in checks) else 1


# Versions -------------------------------------------------------------------------------------------------------------


def _versions(native: Any, failure: str) -> Iterator[Check]:
    topic = "Versions"
    yield Check(topic, "recorder", __version__)
    yield Check(topic, "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    if native is None:
        yield Check(topic, "recorder.native", failure, "missing", f"{_BOOTSTRAP}; it builds the native module")
    for name, function in (("pjproject", "pjproject_version"), ("OpenSSL", "openssl_version")):
        value, problem = _ask(native, function)
        remedy = f"{_BOOTSTRAP}; it builds pjproject and what is linked to it"
        yield Check(topic, name, str(value)) if not problem else Check(topic, name, problem, "missing", remedy)
    yield _library("numpy", "numpy", "__version__", "")
    yield _library("libsndfile", "soundfile", "__libsndfile_version__", "; Debian's package is libsndfile1")
    yield _sipp()


def _library(name: str, module: str, attribute: str, advice: str) -> Check:
    loaded, failure = _load(module)
    if loaded is None:
        return Check("Versions", name, failure, "missing", f"{_BOOTSTRAP}, or pip install {module}{advice}")
    return Check("Versions", name, str(getattr(loaded, attribute, "version unknown")))


def _sipp() -> Check:
    remedy = "only tests and load tests need it: apt-get install sip-tester"
    program = shutil.which("sipp")
    if program is None:
        return Check("Versions", "SIPp", "not in PATH", "note", remedy)
    try:
        run = subprocess.run(  # noqa: S603  # a fixed argument to what PATH calls sipp
            [program, "-v"], capture_output=True, text=True, errors="replace", timeout=_SIPP_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("Versions", "SIPp", f"{program} does not run: {error}", "note", remedy)
    version = re.search(r"SIPp v?(\d[\w.]*)", run.stdout + run.stderr)  # its exit code is 99
    return Check("Versions", "SIPp", version[1] if version else f"{program}, version unknown")


# Limits ---------------------------------------------------------------------------------------------------------------


def _limits(native: Any, calls: int) -> Iterator[Check]:
    topic = "Limits"
    limits, _ = _ask(native, "limits")
    if isinstance(limits, Mapping):
        needs = {
            "max_calls": calls * _LEGS_PER_CALL,
            "max_conference_ports": calls * _BRIDGE_PORTS_PER_CALL + 1,
            "max_ioqueue_handles": calls * _DESCRIPTORS_PER_CALL,
        }
        for name, value in limits.items():
            label = "max_calls (legs)" if name == "max_calls" else name
            need = needs.get(name, 0)
            if value >= need:
                yield Check(topic, label, str(value))
            else:
                remedy = "lower sip.max_calls, or raise it in scripts/pjproject/config_site.h and run scripts/bootstrap"
                yield Check(topic, label, f"{value}; {calls} calls need {need}", "missing", remedy)
    yield _descriptors(calls)
    yield _receive_buffer()


def _descriptors(calls: int) -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = calls * _DESCRIPTORS_PER_CALL + _DESCRIPTORS_BESIDE_CALLS
    value = f"{_limit(soft)} soft, {_limit(hard)} hard; {calls} calls need {need}"
    if _at_least(hard, need):  # `recorder.app` raises the soft limit to the hard one at its start
        return Check("Limits", "file descriptors", value)
    remedy = f"have root raise the hard limit (LimitNOFILE={need} in the systemd unit), or lower sip.max_calls"
    return Check("Limits", "file descriptors", value, "missing", remedy)


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def _at_least(value: int, need: int) -> bool:
    return value == resource.RLIM_INFINITY or value >= need


def _receive_buffer() -> Check:
    name = "UDP receive buffer"
    try:
        limit = int(_RECEIVE_BUFFER_LIMIT.read_text())
    except (OSError, ValueError):
        remedy = f"on the host, see that net.core.rmem_max is at least {_RECEIVE_BUFFER_BYTES}"
        return Check("Limits", name, f"{_RECEIVE_BUFFER_LIMIT} cannot be read", "note", remedy)
    if limit >= _RECEIVE_BUFFER_BYTES:
        return Check("Limits", name, f"up to {limit} bytes")
    value = f"up to {limit} bytes; SIP asks for {_RECEIVE_BUFFER_BYTES}, and a burst of calls overflows less"
    remedy = f"sysctl -w net.core.rmem_max={_RECEIVE_BUFFER_BYTES}, and the same line in /etc/sysctl.d/"
    return Check("Limits", name, value, "note", remedy)


# Transports -----------------------------------------------------------------------------------------------------------


def _transports(native: Any) -> Iterator[Check]:
    topic = "Transports"
    library, problem = _ask(native, "openssl_version")
    yield Check(topic, "UDP, TCP", "by IPv4" if not _has_ipv6() else "by IPv4 and IPv6")
    if not _has_ipv6():
        remedy = "only for sip.listen with an IPv6 host: see sysctl net.ipv6.conf.all.disable_ipv6"
        yield Check(topic, "IPv6", "not on this machine", "note", remedy)
    secure = f"unknown: {problem}" if problem else f"with {library}"
    yield Check(topic, "TLS", f"1.2 and 1.3, {secure}")
    yield Check(topic, "SRTP", "keys by SDES and DTLS")


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::1", 0))
        return True
    return False


# Codecs ---------------------------------------------------------------------------------------------------------------


def _codecs(list_codecs: Callable[[], Iterable[str]]) -> Iterator[Check]:
    topic = "Codecs"
    try:
        found = sorted(set(list_codecs()))
    except Exception as error:  # noqa: BLE001  # whatever keeps the stack from starting is what is reported
        yield Check(topic, "SIP stack", _reason(error), "missing", f"{_BOOTSTRAP}; it builds pjproject and pjsua2")
        return
    names = {codec.split("/")[0].upper() for codec in found}
    for name in _NEEDED_CODECS:
        if name not in names:
            yield Check(topic, name, "not built in", "missing", "build pjproject with G.711; every trunk offers it")
    for codec in found:
        yield Check(topic, codec, "available")


def _codecs_of_the_stack() -> Iterable[str]:
    codecs: Iterable[str] = importlib.import_module("recorder.sip.endpoint").list_codecs()
    return codecs


# What may not be there ------------------------------------------------------------------------------------------------


def _load(name: str) -> tuple[Any, str]:
    """The module and "", or None and why it cannot be had."""
    try:
        module = importlib.import_module(name)
    except Exception as error:  # noqa: BLE001  # a library that cannot be loaded fails in many ways
        return None, _reason(error)
    # A folder of sources without a built module in it imports as well, as an empty namespace.
    return (module, "") if getattr(module, "__file__", None) else (None, "not built")


def _ask(module: Any, function: str) -> tuple[Any, str]:
    """The answer of one function and "", or None and why there is none."""
    if module is None:
        return None, "unknown without recorder.native"
    try:
        return getattr(module, function)(), ""
    except Exception as error:  # noqa: BLE001  # as above
        return None, _reason(error)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
