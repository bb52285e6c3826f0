"""The keys that the configuration names, as the recorder uses them."""

from __future__ import annotations

from recorder.settings import Settings
from recorder.signing import Signer


def signer(settings: Settings) -> Signer | None:
    """What signs manifests and ledger; None when nothing is to be signed. Raises KeyMaterialError."""
    path = settings.recording.signing_key_file
    return Signer.load(path) if path is not None else None
