"""The README names what has been tried: each scenario and test in its table is there, and no scenario is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCENARIOS = sorted(path.stem for path in (ROOT / "sipp-scenarios").glob("*.xml"))
TESTS = frozenset(
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
)


def rows() -> list[tuple[str, str, str]]:
    """The lines of the table: what, scenarios, tests."""
    section = README.partition("### What it has been tried with\n")[2].partition("\n#")[0]
    lines = [line.strip().strip("|") for line in section.splitlines() if line.startswith("|")]
    cells = [tuple(cell.strip() for cell in line.split("|")) for line in lines]
    assert cells[0] == ("What", "Scenario", "Test")
    for cell in cells[2:]:
        assert len(cell) == 3, f"not three cells: {cell}"
    return [(what, scenario, test) for what, scenario, test in cells[2:]]


def test_each_line_has_a_behaviour_and_a_test_that_is_there() -> None:
    for what, scenarios, tests in rows():
        assert what
        named = re.findall(r"`(test_\w+)(?:\[[^`]*\])?`", tests)
        assert named, f"{what}: no test is named"
        assert set(named) <= TESTS, f"{what}: {set(named) - TESTS}"
        for scenario in re.findall(r"`((?:uac|uas)-[\w-]+)`", scenarios):
            assert scenario in SCENARIOS, f"{what}: there is no {scenario}"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_is_named_in_the_readme_or_in_a_test(scenario: str) -> None:
    sources = [README, *(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))]
    assert any(f"`{scenario}`" in source or f'"{scenario}"' in source for source in sources)
