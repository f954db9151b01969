"""The page about benchmarks says what the last run's file says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.lab import PROJECT
from benchmarks.measuring import Figures, Target
from benchmarks.rows import peers
from docs import benchmark_charts, benchmarks

TEXT = benchmarks.PAGE.read_text(encoding="utf-8")


@pytest.fixture
def results() -> dict[str, Any]:
    """A run in which one peer was measured and one would not run."""
    rows = [
        Figures("X.sqlite", "against bare tasks", "/s", [5000], [500], Target(at_least=10)),
        Figures("peer.slow.sqlite", "against slow", "/s", [5000], [100], Target(at_least=5)),
        Figures("peer.absent.sqlite", "against absent", "/s", [5000], [], Target(at_least=5), error="it is not to be had"),
    ]
    about = {"version": "1.0", "guarantee": "at least once", "settings": "as it comes", "acknowledges": True}
    header = json.loads(benchmarks.RESULTS.read_text(encoding="utf-8"))
    return {**header, "rows": [report.as_row(row) for row in rows], "peers": {"slow": about, "absent": about}}


def line_of(page: str, word: str) -> str:
    return next(line for line in page.splitlines() if word in line)


def height_of(drawing: str, label: str) -> float:
    """How far below the top a label stands."""
    found = re.search(rf'y="([\d.]+)"[^>]*>{label}<', drawing)
    assert found is not None
    return float(found[1])


def test_the_page_and_its_charts_match_the_last_run() -> None:
    results = json.loads(benchmarks.RESULTS.read_text(encoding="utf-8"))
    assert benchmarks.page(TEXT, results) == TEXT, "run `python -m docs.benchmarks`"
    for name, drawn in benchmark_charts.drawn(results).items():
        assert (benchmarks.IMAGES / name).read_text(encoding="utf-8") == drawn, "run `python -m docs.benchmarks`"


def test_what_is_measured_again_replaces_its_row_and_the_others_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    first = [Figures("X", "a", "/s", [1], [], Target()), Figures("W", "b", "/s", [2], [], Target())]
    report.write_json(path, first, quick=False, rounds=5)

    kept = report.kept_rows(path, quick=False, rounds=5)
    report.write_json(path, [Figures("X", "a", "/s", [3], [], Target())], quick=False, rounds=5, kept=kept)

    assert [(row["id"], row["ours"]) for row in json.loads(path.read_text())["rows"]] == [("W", 2), ("X", 3)]


def test_figures_of_another_machine_are_kept_and_say_so_until_they_are_back_on_it(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    here, there = report.MACHINE, {**report.MACHINE, "processor": "Z80"}
    report.write_json(path, [Figures("W", "a", "/s", [2], [1], Target())], quick=False, rounds=5)
    path.write_text(json.dumps({**json.loads(path.read_text()), "machine": there}))

    kept = report.kept_rows(path, quick=False, rounds=5)
    report.write_json(path, [Figures("X", "b", "/s", [2], [1], Target())], quick=False, rounds=5, kept=kept)

    written = json.loads(path.read_text())
    assert (written["machine"], [row.get("machine") for row in written["rows"]]) == (here, [there, None])
    page = benchmarks.page(TEXT, written)
    assert re.search(r"Rows with † were measured before, on \d+ cores of Z80", page)
    assert ("× † |" in line_of(page, "`W`"), "†" in line_of(page, "`X`")) == (True, False)

    path.write_text(json.dumps({**written, "machine": there, "rows": [{**row, "machine": here} for row in written["rows"]]}))
    assert ["machine" in row for row in report.kept_rows(path, quick=False, rounds=5)] == [False, False]


def test_figures_that_were_measured_otherwise_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    assert report.kept_rows(path, quick=False, rounds=5) == []
    report.write_json(path, [Figures("X", "a", "/s", [1], [], Target())], quick=False, rounds=5)
    with pytest.raises(report.NotAlike, match="other rounds: leave --keep out"):
        report.kept_rows(path, quick=False, rounds=3)


def test_what_a_peer_failed_with_names_no_directory_of_the_machine() -> None:
    assert peers._told(RuntimeError(f'File "{PROJECT}/build/peers/x.py"')) == 'RuntimeError: File "build/peers/x.py"'


def test_a_peer_stands_in_the_table_with_both_figures_the_ratio_and_its_promise(results: dict[str, Any]) -> None:
    line = line_of(benchmarks.page(TEXT, results), "slow 1.0")
    assert line == "| slow 1.0 | SQLite | 100/s | 5,000/s | 50.00× | ≥ 5× ✓ | at least once |"


def test_a_peer_that_did_not_run_has_no_figure_and_nothing_is_said_to_be_met(results: dict[str, Any]) -> None:
    line = line_of(benchmarks.page(TEXT, results), "absent 1.0")
    assert "did not run" in line
    assert "✓" not in line
    assert "✗" not in line
    assert "absent" not in benchmark_charts.drawn(results)["benchmark-peers-sqlite.svg"]


def test_a_chart_shows_who_was_measured_the_fastest_first_and_is_drawn_alike_every_time(results: dict[str, Any]) -> None:
    (name,) = drawn = benchmark_charts.drawn(results)
    assert name == "benchmark-peers-sqlite.svg"
    ours, slow = (height_of(drawn[name], label) for label in ("celery-outbox  5,000", "slow  100"))
    assert ours < slow
    assert benchmark_charts.drawn(results) == drawn


def test_a_quick_look_says_that_it_proves_nothing(results: dict[str, Any]) -> None:
    assert "proves nothing" in benchmarks.page(TEXT, {**results, "quick": True})
    assert "proves nothing" not in benchmarks.page(TEXT, {**results, "quick": False})


def test_what_the_profile_found_is_in_the_page_and_its_heading_only_with_it(
    results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarks, "LIMITS", {"X": "", "W": ""})
    assert "What limits each figure" not in benchmarks.page(TEXT, results)
    monkeypatch.setattr(benchmarks, "LIMITS", {"X": "the broker's round trips", "W": ""})
    assert "## What limits each figure\n\n- `X`: the broker's round trips\n" in benchmarks.page(TEXT, results)


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
