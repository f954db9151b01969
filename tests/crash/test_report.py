"""The documentation quotes a full run, in which nothing was lost."""

import json

from docs import crash_matrix, soak
from tests.crash.soaking import Minute


def test_the_pages_say_what_the_figures_say() -> None:
    figures = json.loads(crash_matrix.FIGURES.read_text(encoding="utf-8"))

    assert crash_matrix.PAGE.read_text(encoding="utf-8") == crash_matrix.page(figures)
    summary = crash_matrix.SUMMARY.read_text(encoding="utf-8")
    assert summary == crash_matrix.summarised(summary, figures)
    assert [line["checkpoint"] for line in figures["crash"] if line["lost"] or line["problems"]] == []


def test_the_page_of_the_matrix_tells_each_database_by_itself_and_the_clocks_that_were_shortened() -> None:
    counts = {"kills": 2, "messages": 16, "lost": 0, "duplicated": 1}
    runs = [
        {"database": database, "pool": "threads", "checkpoint": "send.after", **counts, "recovery_s": recovery_s}
        for database, recovery_s in (("sqlite", 0.5), ("sqlite", 1.0), ("sqlite", 3.0), ("postgresql", 2.5))
    ]

    page = crash_matrix.page({"crash": runs, "recovery": []})

    assert "| sqlite | 3 | 6 | 48 | 0 | 3 | 1.00 | 3.00 |" in page
    assert "| postgresql | 1 | 2 | 16 | 0 | 1 | 2.50 | 2.50 |" in page
    assert "| `outbox.policy.retry.SHORTEST_RESCUE_DELAY_MS` | 5000 | 0 |" in page


def test_the_page_of_the_soak_says_what_its_figures_say() -> None:
    told = {file: file.read_text(encoding="utf-8") for file in soak.written()}

    assert told == soak.written()
    assert soak.sound(json.loads(soak.FIGURES.read_text(encoding="utf-8"))["soak"])


def test_the_page_of_a_soak_tells_each_minute_and_the_sums() -> None:
    minute = Minute(1, 960, 950, 12, 3, 0.31, None, 187.2, 60, 4.0, 4.0, 1.5, pinned=True)
    run = {
        "database": "sqlite", "killed pool": "prefork", "spared pool": "threads", "length_min": 30.0, "seed": 7,
        "messages": 960, "deaths": 12, "at checkpoints": 9, "struck": {"broker killed": 3}, "lost": 0, "duplicated": 2,
        "rest_s": 1.5, "problems": [], "minutes": [vars(minute)],
    }  # fmt: skip
    runs = [run, {**run, "database": "postgresql"}]

    assert "| 1 | 960 | 950 | 12 | 3 | 0.31 |  | 187.2 | 60 | 4 | 1.5 | pinned |" in soak.page(runs, "")
    assert "1920 messages met 24 deaths" in soak.summarised(f"before\n{soak.BEGIN}{soak.END}after\n", runs)
    assert soak.sound(runs)
    assert not soak.sound(runs[:1])
    assert not soak.sound([run, {**run, "database": "postgresql", "problems": ["lost"]}])
