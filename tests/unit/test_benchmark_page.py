"""The page about benchmarks says what the last run's file says."""

import json
from copy import deepcopy
from typing import Any

import pytest

from benchmarks import report
from benchmarks.measuring import Figures, Target
from docs import benchmark_charts, benchmarks


@pytest.fixture
def results() -> Any:
    return json.loads(benchmarks.RESULTS.read_text(encoding="utf-8"))


def test_the_page_and_its_charts_match_the_last_run(results: Any) -> None:
    page = benchmarks.PAGE.read_text(encoding="utf-8")
    assert page == benchmarks.page(page, results), "run `python -m docs.benchmarks`"
    for name, drawn in benchmark_charts.drawn(results).items():
        assert (benchmarks.IMAGES / name).read_text(encoding="utf-8") == drawn, "run `python -m docs.benchmarks`"


def test_a_figure_that_changes_changes_the_page_and_a_chart(results: Any) -> None:
    changed = deepcopy(results)
    peer = next(row for row in changed["rows"] if row["id"].startswith("peer.") and row["theirs"])
    peer["theirs"] *= 2
    page = benchmarks.PAGE.read_text(encoding="utf-8")
    assert benchmarks.page(page, changed) != page
    assert benchmark_charts.drawn(changed) != benchmark_charts.drawn(results)


def test_a_peer_that_did_not_run_stands_in_the_table_with_no_figure_and_nothing_is_said_to_be_met(results: Any) -> None:
    changed = deepcopy(results)
    peer = next(row for row in changed["rows"] if row["id"].startswith("peer."))
    peer.update(theirs=None, ratio=None, met=None, error="RuntimeError: it is not to be had")
    line = next(
        line
        for line in benchmarks.page(benchmarks.PAGE.read_text(encoding="utf-8"), changed).splitlines()
        if "did not run" in line
    )
    assert "✓" not in line
    assert peer["id"].split(".")[1] in line


def test_what_the_profile_found_is_in_the_page_and_its_heading_only_with_it(
    results: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = benchmarks.PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(benchmarks, "LIMITS", {"X": "", "W": ""})
    assert "What limits each figure" not in benchmarks.page(page, results)
    monkeypatch.setattr(benchmarks, "LIMITS", {"X": "the broker's round trips", "W": ""})
    assert "## What limits each figure\n\n- `X`: the broker's round trips\n" in benchmarks.page(page, results)


def test_a_row_of_the_file_has_its_medians_spread_ratio_and_whether_the_target_is_met() -> None:
    row = report.as_row(Figures("X", "what", "/s", [10, 20, 40], [2, 2, 4], Target(at_least=5), "note"))
    assert (row["ours"], row["theirs"], row["ratio"], row["met"]) == (20, 2, 10, True)
    assert row["spread"] == {"ours": 1.5, "theirs": 1.0}
    assert (row["target"], row["target_at_least"], row["target_at_most"]) == ("≥ 5×", 5, None)
    assert report.as_row(Figures("E", "what", "ms", [3], [2], Target(at_most=1)))["met"] is False


def test_a_row_without_a_target_or_without_the_other_figure_is_neither_met_nor_missed() -> None:
    unwanted = report.as_row(Figures("peer.a.sqlite", "what", "/s", [10], [2], Target()))
    failed = report.as_row(Figures("peer.b.sqlite", "what", "/s", [10], [], Target(at_least=5), error="not installed"))
    assert (unwanted["target"], unwanted["ratio"], unwanted["met"]) == (None, 5, None)
    assert (failed["theirs"], failed["ratio"], failed["met"], failed["error"]) == (None, None, None, "not installed")
