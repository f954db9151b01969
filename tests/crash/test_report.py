"""The documentation quotes a full run, in which nothing was lost."""

import json

from docs import crash_matrix


def test_the_pages_say_what_the_figures_say() -> None:
    figures = json.loads(crash_matrix.FIGURES.read_text(encoding="utf-8"))

    assert crash_matrix.PAGE.read_text(encoding="utf-8") == crash_matrix.page(figures)
    summary = crash_matrix.SUMMARY.read_text(encoding="utf-8")
    assert summary == crash_matrix.summarised(summary, figures)
    assert [line["checkpoint"] for line in figures["crash"] if line["lost"] or line["problems"]] == []
