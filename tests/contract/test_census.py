"""The census: counts by channel and status that stop where nobody needs them to be exact."""

import pytest

from outbox.lifecycle import Status
from outbox.store.records import Count
from outbox.store.sqlstore import SQLStore
from tests.contract.steps import CHANNEL, RETRY, begin, claim, end_as, enqueue, new_row, settle, talk


def test_an_empty_outbox_has_no_counts(store: SQLStore) -> None:
    assert store.census(10) == []


def test_every_message_is_counted_where_it_stands(store: SQLStore) -> None:
    talk(store, "head", "behind", "further behind")
    claim(store)  # marks what waits behind the head as blocked
    for status in (Status.DELIVERED, Status.FAILED_TERMINAL, Status.PARKED, Status.CANCELLED, Status.EXPIRED):
        end_as(store, status, status)
    settle(store, begin(store, "again"), RETRY)
    begin(store, "under way")
    enqueue(store, new_row(channel="email"), new_row(channel="email", stamped=False), new_row(channel="email", delay_ms=1))
    counted = {(count.channel, count.status): count.rows for count in store.census(100)}
    expected = {(each.channel, status): rows for each in store.stats() for status, rows in each.by_status.items()}
    assert counted == expected
    assert counted[CHANNEL, Status.DISPATCHED] + counted.get((CHANNEL, Status.QUEUED), 0) == 3
    assert counted["email", Status.QUEUED] == 3


@pytest.mark.parametrize("stamped", [True, False])
def test_a_count_stops_at_the_most_and_says_so(store: SQLStore, stamped: bool) -> None:
    enqueue(store, *(new_row(stamped=stamped) for _ in range(11)))
    assert store.census(11) == [Count(CHANNEL, Status.QUEUED, 11)]
    assert store.census(10) == [Count(CHANNEL, Status.QUEUED, 10, at_least=True)]


def test_a_count_of_what_has_ended_stops_too(store: SQLStore) -> None:
    for name in "abc":
        end_as(store, name, Status.DELIVERED)
    assert store.census(3) == [Count(CHANNEL, Status.DELIVERED, 3)]
    assert store.census(2) == [Count(CHANNEL, Status.DELIVERED, 2, at_least=True)]


def test_where_statuses_share_an_index_neither_count_is_exact_once_it_is_cut(store: SQLStore) -> None:
    settle(store, begin(store, "again"), RETRY)
    enqueue(store, *(new_row() for _ in range(5)))
    assert all(count.at_least for count in store.census(5))
    assert not any(count.at_least for count in store.census(6))
