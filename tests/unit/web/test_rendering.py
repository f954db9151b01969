"""How numbers and times are shown."""

import pytest

from outbox.lifecycle import Status
from outbox.store.records import Count
from outbox.web import rendering


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (None, "–"), (0, "0 ms"), (999, "999 ms"), (1_000, "1.0 s"), (9_940, "9.9 s"), (10_000, "10s"), (59_400, "59s"),
        (59_600, "1m"), (61_000, "1m 1s"), (3_600_000, "1h"), (7_260_000, "2h 1m"), (86_400_000, "1d"), (90_000_000, "1d 1h"),
        (10**13, "115740d 17h"),
    ],
)  # fmt: skip
def test_a_duration_has_its_two_largest_units(duration_ms: float | None, text: str) -> None:
    assert rendering.span(duration_ms) == text


def test_a_moment_is_told_from_now() -> None:
    assert [rendering.since(at, 100_000) for at in (None, 100_500, 90_000, 170_000)] == ["–", "now", "10s ago", "in 1m 10s"]


def test_a_count_that_was_cut_says_so() -> None:
    assert rendering.count(Count("c", Status.QUEUED, 10_000, at_least=True)) == "10,000+"
    assert rendering.count(Count("c", Status.QUEUED, 9_999)) == "9,999"
    assert rendering.count(1_234) == "1,234"


def test_a_long_id_is_shortened_to_what_tells_it_apart() -> None:
    assert rendering.short("0198c0de-0000-7000-8000-00000000abcd") == "0198c0de…00abcd"
    assert rendering.short("short") == "short"
