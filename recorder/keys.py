"""The keys that the configuration names, as the recorder uses them."""

from __future__ import annotations

from recorder.byte_store import Storage
from recorder.errors import KeyMaterialError
from recorder.keyring import Keyring, parse_key, read_keys
from recorder.sealed_store import SealingStorage, UnsealingStorage
from recorder.settings import Settings
from recorder.signing import Signer


def signer(settings: Settings) -> Signer | None:
    """What signs manifests and ledger; None when nothing is to be signed. Raises KeyMaterialError."""
    path = settings.recording.signing_key_file
    return Signer.load(path) if path is not None else None


def keyring(settings: Settings) -> Keyring:
    """The keys of `recording.encryption`; none when recordings are not encrypted. Raises KeyMaterialError."""
    encryption = settings.recording.encryption
    keys: dict[str, bytes] = {}
    if encryption.key is not None:
        try:
            keys.update([parse_key(encryption.key)])
        except ValueError as error:
            raise KeyMaterialError(f"recording.encryption.key: {error}") from None
    if encryption.key_file is not None:
        keys = keys | {key_id: key for key_id, key in read_keys(encryption.key_file).items() if key_id not in keys}
    return Keyring(keys)


def storage(settings: Settings) -> Storage:
    """How recordings are laid out: sealed where there are keys. Raises KeyMaterialError."""
    keys = keyring(settings)
    return SealingStorage(keys) if keys else UnsealingStorage(keys)
