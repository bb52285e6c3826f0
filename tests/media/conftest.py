"""Lets the tests of this folder import `tests.tones` and `tests.media.taps`, however pytest was started."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The final name of a recording in a folder of its own."""
    return tmp_path / "group~account~1~A.wav"
