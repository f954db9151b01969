"""A soak finds whatever grows: each sort of growth, one at a time, and none where there is none."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.crash.endurance import LATE, LET_GO, PINNED, QUIET, SHORTEST_MIN, Limits, Sample, is_storm, judge, quantile

LENGTH_S = 1_000.0
Change = Callable[[Sample], dict[str, Any]]


def flat(at: float) -> Sample:
    """A look at a sound run: an old reader holds something back, and it goes with the reader."""
    share = at / LENGTH_S
    past = 50.0 if PINNED[0] <= share < PINNED[1] else 5.0
    return Sample(at, {"relay": 80.0}, {"relay": 30}, past, past, 3)


def but_for_a_moment(sample: Sample, size: float) -> float:
    """In each part that is judged."""
    return 5.0 if sample.at in (620, 900) else size


def kinds(change: Change = lambda _: {}, took: Callable[[float], float] = lambda _: 0.3, **options: Any) -> list[str]:
    samples = [flat(float(at)) for at in range(0, 1_000, 10)]
    changed = [replace(sample, **change(sample)) for sample in samples]
    arrivals = [(float(at), took(at)) for at in range(0, 1_000, 5)]
    problems = judge(changed, arrivals, options.get("length_s", LENGTH_S), Limits())
    return [problem.partition(":")[0] for problem in problems]


def test_a_run_in_which_nothing_grows_is_not_found_wanting() -> None:
    assert kinds() == []


@pytest.mark.parametrize(
    ("found", "change"),
    [
        ("memory", lambda sample: {"memory_mb": {"relay": 80 + sample.at / 20}}),
        ("handles", lambda sample: {"handles": {"relay": 30 + int(sample.at / 30)}}),
        ("past", lambda sample: {"past": max(sample.past, 50.0) if sample.at > 400 else sample.past}),
        ("past", lambda sample: {"past": but_for_a_moment(sample, 50.0) if sample.at > 400 else sample.past}),
        ("past", lambda sample: {"past": 50.0 if 400 < sample.at < 700 else 5.0}),
        ("log", lambda sample: {"wal_mb": but_for_a_moment(sample, sample.at / 10)}),
        ("unpinned", lambda _: {"past": 5.0}),
        ("unseen", lambda sample: {"at": min(sample.at, 700.0)}),
    ],
)
def test_what_grows_is_found(found: str, change: Change) -> None:
    assert kinds(change) == [found]


def test_messages_that_take_longer_and_longer_are_found() -> None:
    assert kinds(took=lambda at: 0.3 + at / 200) == ["latency"]


def test_a_few_messages_that_take_ever_longer_are_found() -> None:
    assert kinds(took=lambda at: 0.3 + ((at / 100) ** 2 if at % 50 == 0 else 0)) == ["tail"]


def test_a_part_of_the_run_in_which_nothing_arrived_is_found() -> None:
    [problem] = judge([flat(float(at)) for at in range(1_000)], [], LENGTH_S, Limits())

    assert problem.startswith("unseen")


def test_a_run_too_short_to_tell_is_judged_by_its_ledger_alone() -> None:
    assert kinds(lambda sample: {"memory_mb": {"relay": 80 + sample.at}}, length_s=60 * SHORTEST_MIN - 1) == []


def test_the_database_is_struck_only_while_nothing_is_judged() -> None:
    struck = [at for at in range(1_000) if is_storm(at, LENGTH_S)]

    assert len(struck) > 250
    assert [at for at in struck for part in (QUIET, PINNED, LET_GO, LATE) if part[0] <= at / LENGTH_S < part[1]] == []


def test_a_quantile_is_one_of_the_values() -> None:
    assert [quantile([3.0, 1.0, 2.0], share) for share in (0, 0.5, 0.99, 1)] == [1.0, 2.0, 3.0, 3.0]
    assert quantile([], 0.5) is None
