"""The ring under the compiler's race and memory checkers, outside Python."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "recorder" / "native"


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
def test_producer_reader_and_gate_race_without_a_report(sanitizer: str, tmp_path: Path) -> None:
    program = tmp_path / "ring_race"
    source = [Path(__file__).with_name("ring_race.cpp"), NATIVE / "ring.cpp"]
    flags = ["-std=c++20", "-O1", "-g", "-pthread", f"-fsanitize={sanitizer}", f"-I{NATIVE}"]
    subprocess.run(["c++", *flags, *source, "-o", program], check=True)
    # setarch: ThreadSanitizer of GCC 12 cannot map its shadow under a kernel's wider address randomisation.
    done = subprocess.run(["setarch", "-R", program, "100000"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
