"""Signalling by UDP, TCP and TLS, by IPv4 and IPv6: which way a leg comes in or goes out is nothing to the call."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

from recorder.errors import StartError
from recorder.loadtest.peers import Plan, Sipp
from recorder.loadtest.ports import PortLease, lease
from recorder.loadtest.subject import Subject
from recorder.loadtest.tones import Codec, write_raw
from tests.endtoend.conftest import Bench, Call, Kept
from tests.peers.certificates import Authority, Certificate
from tests.peers.rtp import RtpPeer, encoded, voice_of
from tests.peers.ua import UserAgent
from tests.tones import amplitude_of, sine


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback address")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return authority.issue("localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def ports() -> Iterator[PortLease]:
    """0: a second UDP listener, 1: TLS; 2 to 5: applications by IPv6, TCP, TLS, and one on UDP with a TCP port."""
    with lease(8) as leased:
        yield leased


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, ports: PortLease, certificate: Certificate) -> Iterator[Bench]:
    """A recorder that listens in every way there is."""
    first = ports.first
    subject = Subject(tmp_path_factory.mktemp("recorder"))
    sip = subject.configuration["sip"]
    sip["listen"] += [
        {"transport": "udp", "host": "127.0.0.1", "port": first},
        {"transport": "tcp", "host": "127.0.0.1", "port": subject.sip_port},
        {"transport": "tls", "host": "127.0.0.1", "port": first + 1},
    ]
    if _has_ipv6():
        sip["listen"].append({"transport": "udp", "host": "::1", "port": subject.sip_port})
        sip["listen"].append({"transport": "tcp", "host": "::1", "port": subject.sip_port})
    sip["tls"] = certificate.settings()
    subject.configuration["trunks"][0]["sources"] = ["127.0.0.0/8", "::1"]
    subject.configuration["routes"][:0] = [
        {"name": name, "match": {"called": f"{digit}.*"}, "target": target}
        for digit, name, target in [
            ("2", "ipv6", f"sip:{{user}}@[::1]:{first + 2}"),
            ("3", "tcp", f"sip:{{user}}@127.0.0.1:{first + 3};transport=tcp"),
            ("4", "tls", f"sips:{{user}}@localhost:{first + 4}"),
            ("5", "long", f"sip:{{user}}@127.0.0.1:{first + 5}"),
            ("6", "tcp6", f"sip:{{user}}@[::1]:{first + 3};transport=tcp"),
        ]
    ]
    with subject:
        yield Bench(subject)
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


def check_both_voices(kept: Kept) -> None:
    """440 Hz of the caller and 880 Hz of the application are in the recording, throughout."""
    middle = kept.samples[int(0.5 * kept.rate) : int(1.3 * kept.rate)]
    assert len(middle) == int(0.8 * kept.rate)
    for frequency in (440, 880):
        assert amplitude_of(middle, frequency) == pytest.approx(8000, rel=0.1), frequency


def spoken(
    bench: Bench,
    caller: dict[str, Any],
    application: dict[str, Any],
    scenarios: tuple[str, str] = ("uac-call", "uas-answer"),
) -> Call:
    """A call of SIPp to SIPp of two seconds, with voices that have addresses of their own."""
    a_host, b_host = caller.get("host", "127.0.0.1"), application.get("host", "127.0.0.1")
    with (
        RtpPeer(encoded(sine(440, 2.0)), host=a_host) as a,
        RtpPeer(encoded(sine(880, 2.0)), host=b_host) as b,
    ):
        return bench.call(
            *scenarios,
            seconds=2,
            voices=(a, b),
            caller_plan={"edit": voice_of(a, "caller", Codec.PCMU), **caller},
            application_plan={"edit": voice_of(b, "callee", Codec.PCMU), **application},
        )


@pytest.mark.parametrize(
    ("caller_transport", "called", "application_transport"),
    [("u1", "300", "t1"), ("t1", "100", "u1"), ("t1", "300", "t1")],
)
def test_tcp(bench: Bench, ports: PortLease, caller_transport: str, called: str, application_transport: str) -> None:
    application: dict[str, Any] = {"transport": application_transport}
    if called == "300":
        application["port"] = ports.first + 3
    call = spoken(bench, {"transport": caller_transport, "called": called}, application)
    check_both_voices(bench.kept(call))
    invite = call.application.received("INVITE")[0]
    transport = "TCP" if called == "300" else "UDP"
    assert (invite.header("Via") or "").startswith(f"SIP/2.0/{transport} 127.0.0.1:{bench.subject.sip_port};")
    contact = invite.header("Contact") or ""
    assert f"@127.0.0.1:{bench.subject.sip_port}" in contact
    assert (";transport=TCP" in contact) == (transport == "TCP")


@needs_ipv6
@pytest.mark.parametrize(
    ("caller", "called", "application"),
    [("::1", "100", "127.0.0.1"), ("127.0.0.1", "200", "::1"), ("::1", "200", "::1")],
)
def test_ipv6(bench: Bench, ports: PortLease, caller: str, called: str, application: str) -> None:
    """Each leg has the family of its far side, in signalling and in audio."""
    sip_port = bench.subject.sip_port
    remote = f"[::1]:{sip_port}" if caller == "::1" else f"127.0.0.1:{sip_port}"
    to = {"port": ports.first + 2} if called == "200" else {}
    call = spoken(bench, {"host": caller, "remote": remote, "called": called}, {"host": application, **to})
    check_both_voices(bench.kept(call))
    invite = call.application.received("INVITE")[0]
    home = f"[::1]:{sip_port}" if application == "::1" else f"127.0.0.1:{sip_port}"
    for name in ("Via", "Contact"):
        assert home in (invite.header(name) or ""), name
    assert home.rpartition(":")[0] in (invite.header("From") or "")  # which bears no port (RFC 3261, section 19.1.1)
    family = "IP6 ::1" if application == "::1" else "IP4 127.0.0.1"
    assert f"c=IN {family}" in invite.body.decode()
    answer = call.caller.received(200)[0]
    family = "IP6 ::1" if caller == "::1" else "IP4 127.0.0.1"
    assert f"c=IN {family}" in answer.body.decode()


@needs_ipv6
def test_ipv6_by_tcp(bench: Bench, ports: PortLease) -> None:
    remote = f"[::1]:{bench.subject.sip_port}"
    caller = {"host": "::1", "remote": remote, "called": "600", "transport": "t1"}
    call = spoken(bench, caller, {"host": "::1", "port": ports.first + 3, "transport": "t1"})
    check_both_voices(bench.kept(call))


def test_a_call_stays_with_the_listener_that_it_came_in_by(bench: Bench, ports: PortLease) -> None:
    """Of two UDP listeners it is the second: our Contact says so, and our BYE comes from there."""
    second = f"127.0.0.1:{ports.first}"
    call = bench.call("uac-wait-bye", "uas-bye", seconds=1, caller_plan={"remote": second})
    assert second in (call.caller.received(200)[0].header("Contact") or "")
    bye = call.caller.received("BYE")[0]
    assert (bye.header("Via") or "").startswith(f"SIP/2.0/UDP {second};")


def test_a_long_message_stays_on_udp(bench: Bench, ports: PortLease) -> None:
    """RFC 3261, section 18.1.1, has it go by TCP: a trunk that was given as UDP need not have that."""
    port = ports.first + 5
    long = "5" * 200
    with socket.create_server(("127.0.0.1", port)) as trap:
        trap.settimeout(0)
        edit = [("From: <sip:5550100@", f"From: <sip:{'7' * 220}@")]
        call = bench.call(
            "uac-call",
            "uas-answer",
            seconds=0.5,
            caller_plan={"called": long, "edit": edit},
            application_plan={"port": port},
        )
        with pytest.raises(BlockingIOError):
            trap.accept()
    assert len(call.application.received("INVITE")[0].raw) > 1300


# TLS ------------------------------------------------------------------------------------------------------------------


def tls_of(certificate: Certificate, **more: Any) -> dict[str, Any]:
    return {**certificate.settings(), **more}


def test_tls_from_the_caller(bench: Bench, ports: PortLease, certificate: Certificate, tmp_path: Path) -> None:
    """TLS in, UDP out; both voices are recorded, and the caller's in-dialog requests come through."""
    soundfile.write(tmp_path / "caller.wav", sine(440, 6.0), 8000)
    listening = Plan("uas-answer", port=bench.subject.application_port, sounds=callee_sound(tmp_path))
    with (
        Sipp(listening) as application,
        UserAgent(
            listen={"transport": "tls", "host": "127.0.0.1"},
            tls=tls_of(certificate),
            identity="sips:ua@127.0.0.1",
            call=f"sips:100@localhost:{ports.first + 1}",
            seconds=3,
            sound=str(tmp_path / "caller.wav"),
        ) as caller,
    ):
        assert caller.wait() == 0
        assert caller.find("state", state="DISCONNECTED", status=200), caller.events
        outcome = application.wait(10)
    assert outcome.ok, outcome.errors
    cdr = bench.cdr_where("b_sip_call_id", outcome.received("INVITE")[0].header("Call-ID"))
    assert cdr["reason"] == "caller_hangup"
    check_both_voices(bench.kept_of(cdr))


def test_tls_to_the_application(bench: Bench, ports: PortLease, certificate: Certificate, tmp_path: Path) -> None:
    """UDP in, sips: out, to a host whose certificate bears its name."""
    soundfile.write(tmp_path / "callee.wav", sine(880, 6.0), 8000)
    with UserAgent(
        listen={"transport": "tls", "host": "127.0.0.1", "port": ports.first + 4},
        identity="sips:ua@127.0.0.1",
        tls=tls_of(certificate, verify_client=True),
        sound=str(tmp_path / "callee.wav"),
    ) as application:
        plan = Plan(
            "uac-call", remote=bench.subject.sip_address, called="400", length_ms=2500, sounds=caller_sound(tmp_path)
        )
        with Sipp(plan) as caller:
            outcome = caller.wait()
        assert outcome.ok, outcome.errors
        assert application.wait() == 0
        invite = application.wait_for("invite")["message"]
    assert f"SIP/2.0/TLS 127.0.0.1:{ports.first + 1};" in invite
    assert re.search(rf"^Contact: <sips:[^>]*127\.0\.0\.1:{ports.first + 1}", invite, re.MULTILINE)
    check_both_voices(bench.kept_of(bench.cdr_where("a_sip_call_id", outcome.sent("INVITE")[0].header("Call-ID"))))


def test_a_server_whose_certificate_bears_another_name_is_not_called(
    bench: Bench, ports: PortLease, authority: Authority
) -> None:
    other = authority.issue("other.example.com")
    with UserAgent(
        listen={"transport": "tls", "host": "127.0.0.1", "port": ports.first + 4}, tls=tls_of(other)
    ) as application:
        with Sipp(Plan("uac-rejected", remote=bench.subject.sip_address, called="401")) as caller:
            outcome = caller.wait()
        assert application.find("invite") is None
    assert outcome.ok, outcome.errors
    assert outcome.received(503)


@pytest.mark.parametrize(
    ("versions", "ciphers", "welcome"),
    [
        ((ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3), None, True),
        (
            (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2),
            "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256",
            True,
        ),
        ((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2), "AES128-SHA:AES256-SHA:ECDHE-ECDSA-AES128-SHA", False),
        ((ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1), "ALL:@SECLEVEL=0", False),
        ((ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1), "ALL:@SECLEVEL=0", False),
    ],
)
def test_old_tls_and_weak_ciphers_are_refused(
    bench: Bench, ports: PortLease, certificate: Certificate, versions: Any, ciphers: str | None, welcome: bool
) -> None:
    del bench
    context = ssl.create_default_context(cafile=certificate.ca)
    with warnings.catch_warnings(action="ignore"):  # Python, too, advises against what is tried here
        context.minimum_version, context.maximum_version = versions
    if ciphers is not None:
        context.set_ciphers(ciphers)
    assert can_connect(ports.first + 1, context) is welcome


def test_verify_client(tmp_path: Path, authority: Authority, certificate: Certificate) -> None:
    """Without a certificate of our authority nobody gets as far as to send us a message."""
    stranger = Authority(folder_of(tmp_path, "stranger")).issue("stranger")
    subject = Subject(tmp_path / "recorder")
    with lease(1) as port:
        subject.configuration["sip"]["listen"].append({"transport": "tls", "host": "127.0.0.1", "port": port.first})
        subject.configuration["sip"]["tls"] = {**certificate.settings(), "verify_client": True}
        with subject:
            for shown, welcome in ((None, False), (stranger, False), (authority.issue("trunk"), True)):
                context = ssl.create_default_context(cafile=certificate.ca)
                if shown is not None:
                    context.load_cert_chain(shown.certificate, shown.private_key)
                assert can_connect(port.first, context) is welcome, shown
            assert subject.stop() == 0


@pytest.mark.parametrize("flaw", ["missing", "mismatch"])
def test_certificates_are_checked_before_the_start(
    tmp_path: Path, authority: Authority, certificate: Certificate, flaw: str
) -> None:
    tls = certificate.settings()
    tls["private_key"] = str(tmp_path / "nowhere.key") if flaw == "missing" else authority.issue("x").private_key
    changes = {"sip": {"tls": tls}}
    subject = Subject(tmp_path / "recorder", changes=changes)
    with pytest.raises(StartError, match="is not there" if flaw == "missing" else "is not the key of"):
        subject.start()
    subject.close()


def can_connect(port: int, context: ssl.SSLContext) -> bool:
    """Whether a request by TLS is answered."""
    request = (
        "OPTIONS sips:localhost SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:9;branch=z9hG4bKtls\r\nMax-Forwards: 70\r\n"
        "From: <sip:t@localhost>;tag=1\r\nTo: <sip:localhost>\r\nCall-ID: tls\r\nCSeq: 1 OPTIONS\r\n"
        "Contact: <sip:t@127.0.0.1:9>\r\nContent-Length: 0\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        try:
            with context.wrap_socket(raw, server_hostname="localhost") as secure:
                secure.sendall(request.encode())
                return secure.recv(4096).startswith(b"SIP/2.0 ")
        except (ssl.SSLError, ConnectionError):
            return False


def folder_of(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made


def caller_sound(folder: Path) -> dict[str, Path]:
    return {"caller.ulaw": write_raw(folder / "caller.ulaw", sine(440, 1.0), Codec.PCMU)}


def callee_sound(folder: Path) -> dict[str, Path]:
    return {"callee.ulaw": write_raw(folder / "callee.ulaw", sine(880, 1.0), Codec.PCMU)}
