"""Hosts whose clocks are wrong: they jump by an hour amid the work, and do not agree with each other.

On SQLite, where time is the host's. PostgreSQL's own clock is everybody's.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.crash import workloads
from tests.crash.conftest import MakeFleet
from tests.crash.copies import Copies
from tests.crash.fleet import Fleet
from tests.crash.history import History
from tests.crash.oracle import Fate, judge
from tests.crash.workloads import Order

HOUR_MS = 3_600_000
SKEW_MS = 30_000
TTL_S = 1_800

pytestmark = pytest.mark.xdist_group("crash clocks")


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> Iterator[Fleet]:
    """Its clocks are right, before and after."""
    fleet = make_fleet("sqlite", "threads", has_clocks=True)
    yield fleet
    set_clocks(fleet, 0, 0)


def set_clocks(fleet: Fleet, everybodys_ms: int, theirs_ms: int) -> None:
    """By how much they are wrong from now on: those of all, and those of the node that relays and the node that delivers."""
    for clock, wrong_ms in ((fleet.clock, everybodys_ms), (fleet.their_clock, theirs_ms)):
        draft = clock.with_suffix(".draft")
        draft.write_text(str(wrong_ms))
        draft.rename(clock)  # nobody reads half of it


@pytest.mark.parametrize(("before_ms", "after_ms"), [(0, HOUR_MS), (HOUR_MS, 0)], ids=["forwards", "back"])
def test_a_clock_that_jumps_by_an_hour_loses_nothing_and_leaves_every_second_copy_on_record(
    fleet: Fleet, before_ms: int, after_ms: int
) -> None:
    set_clocks(fleet, before_ms, before_ms)
    history = History(fleet)

    history.commit_and_see_arrive([*workloads.crowd(), *workloads.letters()])
    set_clocks(fleet, after_ms, after_ms)
    history.commit(workloads.letters())
    fleet.rest(history.ids())

    assert judge(history.evidence(), Copies.ON_RECORD).problems == []


def test_a_jump_past_their_time_to_live_expires_messages_on_record_and_the_jump_back_brings_none_of_them_back(
    fleet: Fleet,
) -> None:
    set_clocks(fleet, 0, 0)
    history = History(fleet)
    too_old = [Order("closed", Fate.EXPIRED, fields={"expires_in": TTL_S}) for _ in range(3)]

    history.commit_and_see_arrive([*too_old, *workloads.refusals(), *workloads.letters()])
    set_clocks(fleet, HOUR_MS, HOUR_MS)
    fleet.rest(history.ids())
    set_clocks(fleet, 0, 0)
    with opened(fleet, "closed"):
        history.commit([*workloads.letters(), *(Order("closed", fields={"expires_in": TTL_S}) for _ in range(3))])
        fleet.rest(history.ids())

    assert judge(history.evidence(), Copies.ON_RECORD).problems == []


@contextmanager
def opened(fleet: Fleet, channel: str) -> Iterator[None]:
    """Nothing but what is on record keeps its messages back."""
    fleet.outbox.resume(channel)
    yield
    fleet.outbox.pause(channel)


def test_nodes_that_are_half_a_minute_apart_lose_nothing_and_leave_every_second_copy_on_record(fleet: Fleet) -> None:
    set_clocks(fleet, 0, SKEW_MS)
    history = History(fleet)
    spares = [fleet.another_relay("threads"), fleet.another_delivery("threads")]

    for workload in (workloads.letters, workloads.crowd, workloads.refusals, workloads.asking):
        history.commit(workload())
    fleet.rest(history.ids())
    for spare in spares:
        fleet.dismiss(spare)

    assert judge(history.evidence(), Copies.ON_RECORD).problems == []
