"""What commands and a start enter in the audit: by which user of the machine, with which configuration and keys."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
from contextlib import closing
from typing import Any

from recorder import keys
from recorder.errors import StorageError
from recorder.library.audit import AuditEntry, leave
from recorder.library.index import Index
from recorder.settings import Settings

SECRETS = ("password", "private_key_password", "key")
"""Settings that are no part of a fingerprint: whoever reads it could try guesses at them."""


def user() -> str:
    """Who runs this process: the user of the machine, and behind a slash the one who became it by sudo."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in a container
        name = str(os.getuid())
    before = os.environ.get("SUDO_USER")
    return f"{before}/{name}" if before and before != name else name


def enter(settings: Settings, action: str, note: str, *, failed: str = "", dialog_id: str | None = None) -> None:
    """Enter what a command does, beside a recorder that runs or not. `failed`: in a word, why it came to nothing.

    Where the index cannot be written, or is not there yet, the entry waits in a file. Raises StorageError when it can
    be kept nowhere.
    """
    result = "refused" if failed else "accepted"
    entry = AuditEntry("command", action, result, failed, who=user(), source="local", dialog_id=dialog_id, note=note)
    path = settings.index_path
    try:
        if not path.exists():
            raise StorageError(f"{path}: there is no index yet")
        with closing(Index(path)) as index:
            index.add_audit([entry])
    except StorageError:
        leave(settings.recording.folder, entry)


def configuration(settings: Settings, before: str) -> AuditEntry:
    """The entry of a start: a fingerprint of each section of the configuration, and the ids of the keys.

    `before` is the note of the last such entry; what differs from it is named first.
    """
    prints = {name: _fingerprint(section) for name, section in settings.model_dump(mode="json").items()}
    if (signer := keys.signer(settings)) is not None:
        prints["signing_key"] = signer.key_id
    if ring := keys.keyring(settings):
        prints["encryption_keys"] = ",".join(ring.ids)
    now = [f"{name}={value}" for name, value in sorted(prints.items())]
    known = set(before.split())
    changed = [one.partition("=")[0] for one in now if one not in known]
    gone = {one.partition("=")[0] for one in known if "=" in one} - prints.keys() - {"changed"}
    reason = "first" if not before else "changed" if changed or gone else "unchanged"
    said = f"changed={','.join([*changed, *sorted(gone)])} " if reason == "changed" else ""
    return AuditEntry("recorder", "configure", reason=reason, who=user(), source="local", note=said + " ".join(now))


def _fingerprint(section: Any) -> str:
    return hashlib.sha256(json.dumps(_shown(section), sort_keys=True).encode()).hexdigest()[:12]


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: bool(one) if name in SECRETS else _shown(one) for name, one in value.items()}
    return [_shown(one) for one in value] if isinstance(value, list) else value
