"""The documentation quotes a full run, in which nothing was lost."""

import json

from docs import crash_matrix, soak


def test_the_pages_say_what_the_figures_say() -> None:
    figures = json.loads(crash_matrix.FIGURES.read_text(encoding="utf-8"))

    assert crash_matrix.PAGE.read_text(encoding="utf-8") == crash_matrix.page(figures)
    summary = crash_matrix.SUMMARY.read_text(encoding="utf-8")
    assert summary == crash_matrix.summarised(summary, figures)
    assert [line["checkpoint"] for line in figures["crash"] if line["lost"] or line["problems"]] == []


def test_the_page_of_the_soak_says_what_its_figures_say_and_nothing_was_found_wanting() -> None:
    for file, text in soak.written().items():
        assert file.read_text(encoding="utf-8") == text, "run `python -m docs.soak`"
    assert soak.sound(json.loads(soak.FIGURES.read_text(encoding="utf-8"))["soak"])
