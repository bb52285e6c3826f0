"""The ring's threads at full speed, bare and under the compiler's race and memory checkers, outside Python."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "recorder" / "native"


@pytest.mark.parametrize(
    ("flags", "spans"),
    [
        pytest.param(["-O2"], "20000", id="bare"),
        pytest.param(["-O1", "-g", "-fsanitize=thread"], "3000", id="thread sanitizer"),
        pytest.param(["-O1", "-g", "-fsanitize=address,undefined"], "20000", id="address sanitizer"),
    ],
)
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
def test_producer_reader_and_gate_race_without_a_leak_or_a_report(flags: list[str], spans: str, tmp_path: Path) -> None:
    program = tmp_path / "ring_race"
    source = [Path(__file__).with_name("ring_race.cpp"), NATIVE / "ring.cpp"]
    subprocess.run(["c++", "-std=c++20", "-pthread", *flags, f"-I{NATIVE}", *source, "-o", program], check=True)
    # setarch: ThreadSanitizer of GCC 12 cannot map its shadow under a kernel's wider address randomisation.
    done = subprocess.run(["setarch", "-R", program, spans], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
