"""The keys that data keys are wrapped by (key-encryption keys), each known by its id; never shown, never logged.

A key file has one `id: key` a line, the key being 32 bytes in base64; `#` begins a comment. The first key seals what is
new, the others open what is old.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from recorder.byte_store import sync_folder
from recorder.errors import KeyMaterialError

KEY_BYTES = 32
_LARGEST_FILE_BYTES = 1 << 20
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


class Keyring:
    """Keys by their ids, in order. Raises KeyMaterialError when there is none."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}

    @property
    def first(self) -> str:
        """The id of the key for what is new. Raises KeyMaterialError when there is no key at all."""
        for key_id in self._ciphers:
            return key_id
        raise KeyMaterialError("there is no key to encrypt with")

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all keys, in order."""
        return tuple(self._ciphers)

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._ciphers

    def __bool__(self) -> bool:
        return bool(self._ciphers)

    def cipher(self, key_id: str) -> AESGCM:
        """What wraps and unwraps with this key."""
        return self._ciphers[key_id]


def read_keys(path: Path) -> dict[str, bytes]:
    """Read a key file. Raises KeyMaterialError that names the line, never what stands in it."""
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_FILE_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        raise KeyMaterialError(f"{path} is not there; 'recorder keys new-encryption' makes it") from None
    except OSError as error:
        raise KeyMaterialError(f"{path} cannot be read: {error.strerror}") from None
    keys: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not (line := line.partition("#")[0].strip()):
            continue
        try:
            key_id, key = parse_key(line)
        except ValueError as error:
            raise KeyMaterialError(f"{path}, line {number}: {error}") from None
        if key_id in keys:
            raise KeyMaterialError(f"{path}, line {number}: there is a key {key_id} already")
        keys[key_id] = key
    if not keys:
        raise KeyMaterialError(f"{path} holds no key; 'recorder keys new-encryption' adds one")
    return keys


def parse_key(text: str) -> tuple[str, bytes]:
    """Read `id: key`. Raises ValueError that does not tell the key."""
    key_id, colon, encoded = (part.strip() for part in text.partition(":"))
    if not colon or not _ID.fullmatch(key_id):
        raise ValueError("must be id: key, the id of 1 to 64 letters, digits, '.', '_' or '-'")
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"the key {key_id} must be {KEY_BYTES} bytes in base64")
    return key_id, key


def add_key(path: Path, key_id: str) -> None:
    """Put a new key first in the key file, which is made when it is not there. Raises KeyMaterialError."""
    if not _ID.fullmatch(key_id):
        raise KeyMaterialError(f"{key_id!r} cannot be a key's id: 1 to 64 letters, digits, '.', '_' or '-'")
    line = f"{key_id}: {base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}\n".encode()
    temporary = path.with_name(path.name + ".tmp")
    try:
        known = path.read_bytes() if path.exists() else b""
        if known.strip() and key_id in read_keys(path):
            raise KeyMaterialError(f"{path} has a key {key_id} already; name another id")
        _write_new(temporary, line + known)
        if path.exists():
            status = path.stat()
            temporary.chmod(status.st_mode & 0o777)
            os.chown(temporary, status.st_uid, status.st_gid)
        temporary.replace(path)
        sync_folder(path.parent)  # a recording may be sealed with it next, and must not outlive it
    except FileExistsError:
        raise KeyMaterialError(
            f"{temporary} is there: of another who adds a key now; if nobody does, remove it"
        ) from None
    except OSError as error:
        raise KeyMaterialError(f"{path} cannot be written: {error.strerror}") from None


def _write_new(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            path.unlink()
            raise
