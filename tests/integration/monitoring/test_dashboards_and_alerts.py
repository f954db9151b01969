"""What is shipped for Grafana and Prometheus asks for what the outbox tells, and each alert fires when it is meant to."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from docs import metrics
from outbox.integrations.prometheus.catalogue import ASKED, COUNTED, Family, Kind
from outbox.lifecycle import Status
from outbox.outcome import Outcome
from outbox.store.records import GateKind

ROOT = Path(__file__).parents[3]
ALERTS = ROOT / "monitoring/prometheus/alerts.yml"
ALERT_TESTS = ROOT / "monitoring/prometheus/alerts_test.yml"
DASHBOARD = ROOT / "monitoring/grafana/outbox.json"

FAMILIES = {family.name: family for family in (*COUNTED, *ASKED)}
VALUES = {
    "status": {str(status) for status in Status},
    "kind": {str(kind) for kind in GateKind},
    "outcome": {outcome.__name__.lower() for outcome in get_args(Outcome)},
}
_SELECTOR = re.compile(r"\b(outbox_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|on) \(([^)]*)\)")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def asked() -> list[Any]:
    """Every expression of the alerts and of the dashboard, each under its name."""
    alerts = [pytest.param(rule["expr"], id=rule["alert"]) for rule in rules()]
    targets = [(panel["title"], target) for panel in panels() for target in panel["targets"]]
    return alerts + [pytest.param(target["expr"], id=f"{title} {target['refId']}") for title, target in targets]


def family_of(series: str) -> Family:
    """The metric that has a series of that name. Raises :class:`KeyError`."""
    if series in FAMILIES:
        return FAMILIES[series]
    name, _, suffix = series.rpartition("_")
    assert FAMILIES[name].kind is Kind.HISTOGRAM
    assert suffix in {"bucket", "count", "sum"}
    return FAMILIES[name]


@pytest.mark.parametrize("expression", asked())
def test_what_is_asked_for_is_told(expression: str) -> None:
    found = _SELECTOR.findall(expression)

    assert found
    for series, matchers in found:
        for label, operator, value in _MATCHER.findall(matchers):
            assert label in family_of(series).labels
            values = {value} if operator == "=" else set(value.split("|"))
            assert value == "$channel" or values <= VALUES[label]


@pytest.mark.parametrize("expression", asked())
def test_what_is_grouped_by_is_there(expression: str) -> None:
    known = {"le"}.union(*(family_of(series).labels for series, _ in _SELECTOR.findall(expression)))

    for labels in _GROUPING.findall(expression):
        assert {label.strip() for label in labels.split(",")} <= known


def test_the_dashboard_shows_every_metric() -> None:
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
    shown = {family_of(series).name for expression in expressions for series, _ in _SELECTOR.findall(expression)}

    assert shown == FAMILIES.keys()


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_every_alert_says_how_bad_it_is_and_is_explained() -> None:
    guide = (ROOT / "docs/guides/monitoring.md").read_text(encoding="utf-8")

    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert f"`{rule['alert']}`" in guide


def test_every_alert_is_shown_to_fire_and_to_keep_quiet() -> None:
    tests = yaml.safe_load(ALERT_TESTS.read_text())["tests"]
    fires = {re.findall(r'alertname="(\w+)"', case["expr"])[0] for test in tests for case in test.get("promql_expr_test", ())}
    keeps_quiet = {case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if not case["exp_alerts"]}

    assert fires == keeps_quiet == {rule["alert"] for rule in rules()}


needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus")


@needs_promtool
@pytest.mark.parametrize("command", [["check", "rules", ALERTS], ["test", "rules", ALERT_TESTS]], ids=["are valid", "fire"])
def test_prometheus_agrees_that_the_alerts(command: list[str | Path]) -> None:
    promtool(*command)


@needs_promtool
def test_prometheus_understands_what_the_dashboard_asks(tmp_path: Path) -> None:
    expressions = [target["expr"].replace("$__rate_interval", "1m") for panel in panels() for target in panel["targets"]]
    as_rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(expressions)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": as_rules}]}))

    promtool("check", "rules", file)


def promtool(*command: str | Path) -> None:
    done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_documented_metrics_are_those_of_the_code() -> None:
    assert metrics.PAGE.read_text(encoding="utf-8") == metrics.page(), "run `python -m docs.metrics`"
