"""Access tokens: made here, shown once, and kept only as their SHA-256."""

from __future__ import annotations

import hashlib
import secrets


def new_token() -> tuple[str, str]:
    """Make a token of 256 random bits; returns it and the hex SHA-256 that belongs in `http.tokens`."""
    token = secrets.token_urlsafe(32)
    return token, token_sha256(token)


def token_sha256(token: str) -> str:
    """The lower-case hex SHA-256 by which `token` is configured."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
