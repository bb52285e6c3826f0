"""The benchmark of setting up and tearing down, small, through a real recorder."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from recorder.loadtest.setup_cost import Options, run

pytestmark = [pytest.mark.alone, pytest.mark.moments]


def test_both_kinds_of_call_are_measured_by_thread(tmp_path: Path) -> None:
    result = tmp_path / "out" / "cost.json"
    console = Console(file=io.StringIO(), width=100)
    assert run(Options(calls=8, rate=8, json_path=result), console) == 0
    bare, recorded = json.loads(result.read_text())
    for cost in (bare, recorded):
        assert (cost["calls"], cost["failed"]) == (8, 0)
        assert cost["threads"]["sip"] > 0
    assert (bare["recorded"], recorded["recorded"]) == (False, True)
    assert isinstance(console.file, io.StringIO)
    assert "Thread sip" in console.file.getvalue()
