"""Ed25519 signatures (RFC 8032): what a recorder kept can be checked by anyone with its public key.

Keys are PEM files as OpenSSL writes them: PKCS #8 for the private one, SubjectPublicKeyInfo for the public one. A key's
id is the first 16 hex digits of the SHA-256 of its public half in DER. What is signed is JSON in one fixed spelling,
`canonical`, behind the name of what it is, so that no signature can stand for another thing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field

from recorder.byte_store import sync_folder
from recorder.errors import KeyMaterialError

PUBLIC_SUFFIX = ".pub"
_MAX_KEY_FILE_BYTES = 16 * 1024


class Signature(BaseModel):
    """A signature as it stands in a manifest or a line of the ledger; `value` is in base64."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["Ed25519"] = "Ed25519"
    key_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    value: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{86}==$")]


class Signer:
    """Signs with one private key, which it never shows."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.key_id = key_id(key.public_key())

    @classmethod
    def load(cls, path: Path) -> Signer:
        """Read a private key. Raises KeyMaterialError that says what is wrong with the file."""
        try:
            key = serialization.load_pem_private_key(_content(path), password=None)
        except TypeError:
            raise KeyMaterialError(f"{path}: is encrypted by a password; a signing key must not be") from None
        except (ValueError, UnsupportedAlgorithm):
            raise KeyMaterialError(f"{path}: holds no private key; 'recorder keys new-signing' makes one") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyMaterialError(f"{path}: is no Ed25519 key; 'recorder keys new-signing' makes one")
        return cls(key)

    @property
    def public_key(self) -> Ed25519PublicKey:
        """The half that checks what this one signs."""
        return self._key.public_key()

    def sign(self, kind: str, content: Mapping[str, Any]) -> Signature:
        """Sign `content` as a thing of this `kind`."""
        value = self._key.sign(_message(kind, content))
        return Signature(key_id=self.key_id, value=base64.b64encode(value).decode())


class PublicKeys:
    """The keys that signatures are checked with."""

    def __init__(self, keys: Iterable[Ed25519PublicKey] = ()) -> None:
        self._keys = {key_id(key): key for key in keys}

    @classmethod
    def load(cls, paths: Iterable[Path]) -> PublicKeys:
        """Read public keys. Raises KeyMaterialError that says what is wrong with a file."""
        return cls(_public_key(path) for path in paths)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __contains__(self, known: str) -> bool:
        return known in self._keys

    def __str__(self) -> str:
        return ", ".join(self._keys)

    def hold(self, kind: str, content: Mapping[str, Any], signature: Signature) -> bool:
        """Tell whether one of these keys signed `content` as a thing of this `kind`."""
        key = self._keys.get(signature.key_id)
        if key is None:
            return False
        with suppress(InvalidSignature, binascii.Error):
            key.verify(base64.b64decode(signature.value, validate=True), _message(kind, content))
            return True
        return False


def canonical(content: Mapping[str, Any]) -> bytes:
    """JSON in one spelling: keys in order, no blanks, ASCII. Whoever reads the same content writes the same bytes."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def key_id(key: Ed25519PublicKey) -> str:
    """Name a key."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()[:16]


def make_pair(path: Path) -> tuple[Path, str]:
    """Write a new private key to `path`, for its owner's eyes alone, and its public half beside it.

    Returns the public key's path and the key's id. Raises KeyMaterialError when a file is there already or cannot be
    written.
    """
    key = Ed25519PrivateKey.generate()
    public_path = path.with_name(path.name + PUBLIC_SUFFIX)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_new(path, private, 0o600)
    write_new(public_path, public, 0o644)
    return public_path, key_id(key.public_key())


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is not there yet. Raises KeyMaterialError."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except FileExistsError:
        raise KeyMaterialError(f"{path}: is there already, and a key is never replaced; name another file") from None
    except OSError as error:
        raise KeyMaterialError(f"{path}: cannot be written: {error.strerror}") from None


def _message(kind: str, content: Mapping[str, Any]) -> bytes:
    return kind.encode("ascii") + b"\n" + canonical(content)


def _public_key(path: Path) -> Ed25519PublicKey:
    content = _content(path)
    with suppress(ValueError, UnsupportedAlgorithm):
        key = serialization.load_pem_public_key(content)
        if isinstance(key, Ed25519PublicKey):
            return key
    raise KeyMaterialError(f"{path}: holds no Ed25519 public key; name the {PUBLIC_SUFFIX} file of the key pair")


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_KEY_FILE_BYTES)
    except FileNotFoundError:
        raise KeyMaterialError(f"{path}: is not there; check the path") from None
    except OSError as error:
        raise KeyMaterialError(f"{path}: cannot be read: {error.strerror}") from None
