"""A trunk that is known by the certificate of its TLS connection (RFC 5922)."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recorder.loadtest.subject import HOST, Subject


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certificate(folder: Path, name: str, alternative: str | None = None) -> None:
    """NAME.key and NAME.pem, by the authority ca; the common name is NAME.test."""
    openssl(
        folder,
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        f"{name}.key",
        "-out",
        f"{name}.csr",
        "-subj",
        f"/CN={name}.test",
    )
    (folder / "extensions").write_text(f"subjectAltName={alternative}\n" if alternative else "")
    openssl(
        folder,
        "x509",
        "-req",
        "-in",
        f"{name}.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-out",
        f"{name}.pem",
        "-extfile",
        "extensions",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    openssl(
        folder,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-days",
        "2",
        "-subj",
        "/CN=authority",
    )
    certificate(folder, "recorder", "IP:127.0.0.1")
    certificate(folder, "common")
    certificate(folder, "alternative", "DNS:sbc.example.com,URI:sip:carrier.example.com")
    certificate(folder, "other", "DNS:other.example.com")
    return folder


@pytest.fixture(scope="module")
def subject(folder: Path) -> Iterator[Subject]:
    tls = {"certificate": "recorder.pem", "private_key": "recorder.key", "ca": "ca.pem", "verify_client": True}
    names = ["common.test", "SBC.example.com"]
    subject = Subject(folder, changes={"sip": {"tls": tls}, "trunks": [{"name": "sbc", "client_certificates": names}]})
    listen = subject.configuration["sip"]["listen"]
    listen.append({**listen[0], "transport": "tls"})
    with subject:
        yield subject
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


def options(subject: Subject, folder: Path, name: str) -> int:
    """The answer to an OPTIONS on a connection that shows this certificate."""
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    serial = time.monotonic_ns()
    with (
        socket.create_connection((HOST, subject.sip_port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as connection,
    ):
        lines = [
            f"OPTIONS sip:{HOST} SIP/2.0",
            f"Via: SIP/2.0/TLS {HOST};branch=z9hG4bK{serial}",
            f"From: <sip:a@{HOST}>;tag=1",
            f"To: <sip:b@{HOST}>",
            f"Call-ID: {serial}",
            "CSeq: 1 OPTIONS",
            "Content-Length: 0",
            "",
            "",
        ]
        connection.sendall("\r\n".join(lines).encode())
        found: Any = re.match(rb"SIP/2\.0 (\d+)", connection.recv(65536))
        return int(found[1])


@pytest.mark.parametrize(("name", "status"), [("common", 200), ("alternative", 200), ("other", 403)])
def test_who_shows_a_certificate_of_the_trunk_may_call(subject: Subject, folder: Path, name: str, status: int) -> None:
    assert options(subject, folder, name) == status


def test_a_stranger_without_tls_is_turned_away_for_its_certificate(subject: Subject) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind((HOST, 0))
        peer.settimeout(5)
        address = f"{HOST}:{peer.getsockname()[1]}"
        lines = [
            f"OPTIONS sip:{HOST} SIP/2.0",
            f"Via: SIP/2.0/UDP {address};branch=z9hG4bK1",
            f"From: <sip:a@{HOST}>;tag=1",
            f"To: <sip:b@{HOST}>",
            "Call-ID: plain",
            "CSeq: 1 OPTIONS",
            "Content-Length: 0",
            "",
            "",
        ]
        peer.sendto("\r\n".join(lines).encode(), (HOST, subject.sip_port))
        assert peer.recv(65536).startswith(b"SIP/2.0 403 ")
    deadline = time.monotonic() + 10
    while subject.api.metrics().get('recorder_strangers_total{reason="certificate"}', 0) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
