"""What `check-config` says of certificates, keys and password files, and of transports and trunks that do not fit."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from recorder.errors import SettingsError
from recorder.settings import parse, warnings
from recorder.settings_files import password, problems
from tests.peers.certificates import Authority, Certificate

TLS = "sip: {listen: [{transport: tls, port: 5061}], tls: {certificate: CRT, private_key: KEY, ca: CA}}\n"
CARRIER = "trunks: [{name: carrier, sources: [192.0.2.1], credentials: {username: me, password_file: secret}}]\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return authority.issue("localhost")


def found(text: str, base: Path) -> list[str]:
    return problems(parse(text, base, "recorder.yaml", {}))


def tls(crt: object, key: object, ca: object) -> str:
    return TLS.replace("CRT", str(crt)).replace("KEY", str(key)).replace("CA}", f"{ca}}}")


def test_what_fits_is_fine(certificate: Certificate, tmp_path: Path) -> None:
    assert found(tls(certificate.certificate, certificate.private_key, certificate.ca), tmp_path) == []


def test_each_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert [line.partition(" ")[0] for line in found(tls("a.crt", "a.key", "ca.pem"), tmp_path)] == [
        "sip.tls.certificate:",
        "sip.tls.private_key:",
        "sip.tls.ca:",
    ]
    assert f"{tmp_path}/a.crt is not there" in found(tls("a.crt", "a.key", "ca.pem"), tmp_path)[0]


def test_a_file_that_is_not_pem_is_told(certificate: Certificate, tmp_path: Path) -> None:
    (tmp_path / "a.der").write_bytes(b"\x30\x82\x01\x0a" * 20)
    [line] = found(tls(tmp_path / "a.der", certificate.private_key, certificate.ca), tmp_path)
    assert "holds no certificate in PEM" in line
    [line] = found(tls(certificate.certificate, certificate.certificate, certificate.ca), tmp_path)
    assert line.startswith("sip.tls.private_key:") or "private key" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_told(certificate: Certificate, tmp_path: Path) -> None:
    key = tmp_path / "a.key"
    key.write_text(Path(certificate.private_key).read_text())
    key.chmod(0)
    [line] = found(tls(certificate.certificate, key, certificate.ca), tmp_path)
    assert "cannot be read: Permission denied" in line


def test_a_key_of_another_certificate_is_told(authority: Authority, certificate: Certificate, tmp_path: Path) -> None:
    other = authority.issue("other")
    [line] = found(tls(certificate.certificate, other.private_key, certificate.ca), tmp_path)
    assert "is not the key of" in line


def test_an_encrypted_key_needs_its_password(certificate: Certificate, tmp_path: Path) -> None:
    key = tmp_path / "locked.key"
    command = ["openssl", "pkey", "-in", certificate.private_key, "-aes256", "-passout", "pass:1234", "-out", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    text = tls(certificate.certificate, key, certificate.ca)
    [line] = found(text, tmp_path)
    assert "is encrypted, and sip.tls.private_key_password is missing" in line
    [line] = found(text.replace("tls: {", "tls: {private_key_password: wrong, "), tmp_path)
    assert "does not open it" in line
    assert found(text.replace("tls: {", "tls: {private_key_password: '1234', "), tmp_path) == []


def test_a_password_file_is_looked_into(tmp_path: Path) -> None:
    [line] = found(CARRIER, tmp_path)
    assert line.startswith("trunks.0.credentials.password_file:")
    (tmp_path / "secret").write_text("")
    [line] = found(CARRIER, tmp_path)
    assert "is empty" in line
    (tmp_path / "secret").write_text("open sesame\n")
    assert found(CARRIER, tmp_path) == []
    credentials = parse(CARRIER, tmp_path, "recorder.yaml", {}).trunks[0].credentials
    assert credentials is not None
    assert password(credentials) == "open sesame"
    assert "sesame" not in repr(credentials)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sip: {listen: [{transport: tls}]}", "tls needs sip.tls.certificate"),
        ("sip: {tls: {verify_client: true}}", "sip.tls.verify_client: needs sip.tls.ca"),
        ("sip: {listen: [{public_address: '2001:db8::1'}]}", "must both be IPv4, or both IPv6"),
        ("sip: {listen: [{public_port: 5070}]}", "needs public_address"),
        ("trunks: [{name: a, sources: [192.0.2.1], credentials: {username: me}}]", "needs password or password_file"),
        (f"sip: {{listen: [{', '.join(f'{{port: {5060 + i}}}' for i in range(9))}]}}", "sip.listen"),
        (f"trunks: [{', '.join(f'{{name: t{i}, sources: [10.0.{i // 250}.{i % 250}]}}' for i in range(256))}]", "256"),
    ],
)
def test_what_does_not_fit_together_is_told(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"(?s).*") as caught:
        parse(text, tmp_path, "recorder.yaml", {})
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("target", "transport"),
    [("sips:a@b", "TLS"), ("sip:b;transport=tls", "TLS"), ("sip:b;transport=TCP", "TCP"), ("sip:192.0.2.1", None)],
)
def test_a_target_without_a_listener_of_its_transport_is_warned_of(
    target: str, transport: str | None, tmp_path: Path
) -> None:
    settings = parse(f"routes: [{{name: r, target: '{target}'}}]", tmp_path, "recorder.yaml", {})
    told = [line for line in warnings(settings) if line.startswith("routes.0.target")]
    assert bool(told) == (transport is not None)
    assert transport is None or f"asks for {transport}" in told[0]
