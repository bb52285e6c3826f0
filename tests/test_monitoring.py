"""The Prometheus and Grafana files: correct, tested, and about metrics that the recorder has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from recorder.metrics import Metrics
from recorder.settings import Http, Recording

CONFIG = Path(__file__).parents[1] / "config"
PROMETHEUS = CONFIG / "prometheus"
DASHBOARD: dict[str, Any] = json.loads((CONFIG / "grafana" / "recorder-dashboard.json").read_text())
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
CASES: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
OF_THE_SCRAPE = {"instance", "job"}
NOT_OURS = {"up", "ALERTS"}


def promtool(*arguments: str | Path) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not in PATH; it is in Debian's package prometheus")
    run = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def series_of_the_recorder() -> dict[str, set[str]]:
    """Every series name that /metrics can have, with its labels."""
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}
    found: dict[str, set[str]] = {}
    for metric in vars(Metrics()).values():
        if not hasattr(metric, "_type"):
            continue
        for suffix in suffixes[metric._type]:
            labels = set(metric._labelnames) | ({"le"} if suffix == "_bucket" else set())
            found[metric._name + suffix] = labels
    found["recorder_build_info"] |= {"version", "pjproject", "python"}
    return found


SERIES = series_of_the_recorder()


def panels(kind: str | None = None) -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        if (kind is None and panel["type"] != "row") or panel["type"] == kind:
            yield panel


def expressions_of_the_dashboard() -> list[tuple[str, str]]:
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def assert_about_our_series(where: str, expression: str) -> None:
    """Every metric in the expression is one of ours, and has every label that it is asked for."""
    used: set[str] = set()
    for name, selector in re.findall(r"\b([a-zA-Z_:]+)\{([^}]*)\}", expression):
        if name in NOT_OURS:
            continue
        assert name in SERIES, f"{where}: no metric {name}"
        used.add(name)
        asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
        assert asked <= SERIES[name] | OF_THE_SCRAPE, f"{where}: {name} has no label {asked - SERIES[name]}"
    names = set(re.findall(r"\brecorder_\w+", expression))
    assert names <= SERIES.keys(), f"{where}: no metric {names - SERIES.keys()}"
    labels = set().union(*(SERIES[name] for name in names)) | OF_THE_SCRAPE
    for grouping in re.findall(r"\b(?:by|without) \(([^)]*)\)", expression):
        assert {label.strip() for label in grouping.split(",")} <= labels, f"{where}: {grouping}"


# Prometheus -----------------------------------------------------------------------------------------------------------


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", PROMETHEUS / "alerts.yml")


def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", PROMETHEUS / "alerts_test.yml")


def test_prometheus_scrapes_where_the_recorder_listens_by_default() -> None:
    (job,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    assert job["job_name"] == "recorder"
    assert job["static_configs"][0]["targets"] == [f"{Http().host}:{Http().port}"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_is_about_metrics_that_exist_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert_about_our_series(rule["alert"], rule["expr"])
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description"}
    assert len(rule["annotations"]["description"]) > 100
    # A label that the expression drops would be an empty place in the text.
    for label in re.findall(r"\$labels\.(\w+)", "".join(rule["annotations"].values())):
        assert label in OF_THE_SCRAPE or label in set().union(
            *(SERIES[n] for n in re.findall(r"recorder_\w+", rule["expr"]))
        )


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_each_alert_has_a_case_where_it_fires_and_one_where_it_does_not(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    cases = [case for case in CASES if case["name"].startswith(f"{name} ")]
    checks = [(case["name"], check) for case in cases for check in case["promql_expr_test"]]
    assert all(f'alertname="{name}"' in check["expr"] for _, check in checks), "each case asks for its own alert"
    firing = [case for case, check in checks if check.get("exp_samples")]
    quiet = [case for case in {case for case, _ in checks} if case not in firing]
    assert any(case.startswith(f"{name} fires ") for case in firing), "no case where it fires"
    assert any(case.startswith(f"{name} does not fire ") for case in quiet), "no case where it does not"


def test_every_case_is_about_an_alert_there_is_and_feeds_it_series_there_are() -> None:
    alerts = {rule["alert"] for rule in RULES}
    for case in CASES:
        assert case["name"].split()[0] in alerts
        for series in case["input_series"]:
            assert_about_our_series(case["name"], series["series"])


def test_the_floor_in_the_alerts_and_the_dashboard_is_that_of_the_settings() -> None:
    floor_bytes = Recording().disk_floor_mb * 1_000_000
    named = [number for rule in RULES for number in re.findall(r"\b[\d.]+e\d+\b", rule["expr"])]
    assert len(named) == 3
    assert {float(number) for number in named} == {floor_bytes}
    (panel,) = (panel for panel in panels() if panel["title"] == "Free space")
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"] == floor_bytes


# Grafana --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("title", "expression"), expressions_of_the_dashboard())
def test_a_panel_asks_for_metrics_that_exist(title: str, expression: str) -> None:
    assert_about_our_series(title, expression)
    assert 'instance=~"$instance"' in expression, "the choice of the recorder has no effect"


def test_prometheus_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$__(rate_interval|range)", "5m", expression)}
        for number, (_, expression) in enumerate(expressions_of_the_dashboard())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", file)


def test_every_metric_is_on_the_dashboard() -> None:
    shown = " ".join(expression for _, expression in expressions_of_the_dashboard())
    metrics = {re.sub(r"_(bucket|sum|count)$", "", series) for series in SERIES}
    missing = {metric for metric in metrics if not re.search(rf"\b{metric}(_bucket|_sum|_count)?\b", shown)}
    assert missing == set()


def test_the_dashboard_has_its_rows_and_each_panel_a_unit_and_an_explanation() -> None:
    assert [row["title"] for row in panels("row")] == ["Calls", "Recording", "Storage", "HTTP"]
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["description"], panel["title"]
        assert panel["title"]


def test_the_dashboard_belongs_to_no_one_grafana() -> None:
    assert DASHBOARD["id"] is None
    assert DASHBOARD["schemaVersion"] >= 39
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert all(variable["current"] == {} for variable in variables.values())
    sources = [panel["datasource"] for panel in panels()]
    sources += [target["datasource"] for panel in panels() for target in panel["targets"]]
    sources += [variables["instance"]["datasource"]]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    everything = DASHBOARD["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    for one, other in combinations([panel["gridPos"] for panel in everything], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart
        assert one["x"] + one["w"] <= 24
