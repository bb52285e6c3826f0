"""What the configuration names on disk: certificates, keys and passwords, looked into before anything is started."""

from __future__ import annotations

import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

from recorder import keys
from recorder.errors import KeyMaterialError
from recorder.settings import Credentials, Digest, Settings, Tls


def problems(settings: Settings) -> list[str]:
    """What is wrong with the files, one line each: `key.path: what is wrong; what to do`."""
    found = _of_tls(settings.sip.tls)
    for position, trunk in enumerate(settings.trunks):
        for key, secret in (("credentials", trunk.credentials), ("digest", trunk.digest)):
            if secret is None or secret.password_file is None:
                continue
            text = _unreadable(secret.password_file)
            if text is None and not password(secret):
                text = f"{secret.password_file} is empty; its first line is the password"
            if text is not None:
                found.append(f"trunks.{position}.{key}.password_file: {text}")
    return found + _of_keys(settings)


def warnings(settings: Settings) -> list[str]:
    """What is not wrong with the files and surely not meant: secrets that others can read."""
    return [
        f"{key}: {path} can be read by other users of this machine; chmod 600 {path}"
        for key, path in _secret_files(settings)
        if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)
    ]


def _of_keys(settings: Settings) -> list[str]:
    found = []
    if settings.recording.signing_key_file is not None:
        try:
            keys.signer(settings)
        except KeyMaterialError as error:
            found.append(f"recording.signing_key_file: {error}")
    try:
        keys.keyring(settings)
    except KeyMaterialError as error:
        found.append(f"recording.encryption: {str(error).removeprefix('recording.encryption.')}")
    return found


def _secret_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    if (path := settings.recording.signing_key_file) is not None:
        yield "recording.signing_key_file", path
    if (path := settings.recording.encryption.key_file) is not None:
        yield "recording.encryption.key_file", path


def password(credentials: Credentials | Digest) -> str:
    """The trunk's password; one from a file is its first line. Raises OSError."""
    if credentials.password_file is None:
        return credentials.password or ""
    text = credentials.password_file.read_text(encoding="utf-8", errors="surrogateescape")
    return text.splitlines()[0] if text else ""


def _of_tls(tls: Tls) -> list[str]:
    found = []
    for key, path in (("certificate", tls.certificate), ("private_key", tls.private_key), ("ca", tls.ca)):
        if path is not None and (text := _unreadable(path) or _not_pem(path, key)) is not None:
            found.append(f"sip.tls.{key}: {text}")
    if not found and tls.certificate is not None and tls.private_key is not None:
        found += _pair(tls, tls.certificate, tls.private_key)
    if not found and tls.ca is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(tls.ca)
        except ssl.SSLError as error:
            found.append(f"sip.tls.ca: {tls.ca} holds no certificate that can be used ({_reason(error)})")
    return found


def _pair(tls: Tls, certificate: Path, private_key: Path) -> list[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    asked = False

    def secret() -> str:  # without it OpenSSL would ask at the terminal
        nonlocal asked
        asked = True
        return tls.private_key_password or ""

    try:
        context.load_cert_chain(certificate, private_key, password=secret)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return [f"sip.tls.private_key: {private_key} is not the key of {certificate}; take both from one request"]
        if asked:
            given = "does not open it" if tls.private_key_password else "is missing"
            return [f"sip.tls.private_key: {private_key} is encrypted, and sip.tls.private_key_password {given}"]
        return [f"sip.tls.certificate: {certificate} with {private_key} cannot be used: {_reason(error)}"]
    return []


def _unreadable(path: Path) -> str | None:
    try:
        path.read_bytes()
    except FileNotFoundError:
        return f"{path} is not there; check the path"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}; the recorder's user needs read access"
    return None


def _not_pem(path: Path, key: str) -> str | None:
    wanted = b"PRIVATE KEY-----" if key == "private_key" else b"-----BEGIN CERTIFICATE-----"
    if wanted in path.read_bytes():
        return None
    what = "private key" if key == "private_key" else "certificate"
    return f"{path} holds no {what} in PEM (text with -----BEGIN …-----); convert it with openssl"


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
