"""How to start the programs of this folder: pjsua2 is one to a process, so each test that needs it has its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def command(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-X", "faulthandler", str(Path(__file__).parent / "programs" / program), *arguments]


def environment() -> dict[str, str]:
    """The program imports the same `recorder` as the test."""
    return {**os.environ, "PYTHONPATH": str(_ROOT)}
