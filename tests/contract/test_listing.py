"""Pages of messages: complete, in order, each row once, and bounded in what they look at."""

from collections.abc import Iterator

import pytest

from outbox.lifecycle import Status
from outbox.store import listing
from outbox.store.records import MessageFilter, Place
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.steps import (
    DEAD,
    DELIVERED,
    RETRY,
    begin,
    claim,
    end_as,
    enqueue,
    enqueue_named,
    new_row,
    settle,
    settlement,
    stored,
    take,
    talk,
)


def pages(store: SQLStore, limit: int, **wanted: object) -> Iterator[list[str]]:
    after: Place | None = None
    while True:
        page = store.page(MessageFilter(**wanted), after, limit)  # type: ignore[arg-type]
        yield [line.id for line in page.lines]
        after = page.next
        if after is None:
            return


def listed(store: SQLStore, limit: int = 100, **wanted: object) -> list[str]:
    return [name for page in pages(store, limit, **wanted) for name in page]


@pytest.fixture
def mixed(store: SQLStore, clock: FakeClock) -> SQLStore:
    """Two of every status and channel, told apart by target and turn."""
    for number in (1, 2):
        for channel in ("email", "webhook"):
            for status in (Status.DELIVERED, Status.FAILED_TERMINAL):
                clock.advance(1)
                name = f"{channel}-{status}-{number}"
                enqueue_named(store, name, channel=channel, target=f"t{number}", turn_id=f"turn-{number}")
                (message,) = take(store, claim(store, channel=channel), channel=channel)
                verdict = DELIVERED if status is Status.DELIVERED else DEAD
                store.settle([settlement(message, verdict)])
    enqueue_named(store, "waits", target="t1", turn_id="turn-1")
    return store


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_every_message_is_on_one_page_newest_first(mixed: SQLStore, limit: int) -> None:
    newest_first = sorted(listed(mixed), key=lambda name: -stored(mixed, name).seq)
    assert listed(mixed, limit) == newest_first
    assert len(newest_first) == 9
    assert all(len(page) <= limit for page in pages(mixed, limit))


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_what_has_ended_is_listed_by_when_it_ended_over_all_channels(mixed: SQLStore, limit: int) -> None:
    expected = ["webhook-delivered-2", "email-delivered-2", "webhook-delivered-1", "email-delivered-1"]
    assert listed(mixed, limit, status=Status.DELIVERED) == expected
    assert listed(mixed, limit, status=Status.DELIVERED, channel="email") == expected[1::2]
    assert listed(mixed, limit, status=Status.EXPIRED) == []


@pytest.mark.parametrize("limit", [1, 100])
def test_filters_are_combined(mixed: SQLStore, limit: int) -> None:
    assert listed(mixed, limit, status=Status.FAILED_TERMINAL, target="t2", channel="webhook") == ["webhook-failed_terminal-2"]
    assert listed(mixed, limit, turn_id="turn-1", channel="webhook") == [
        "waits", "webhook-failed_terminal-1", "webhook-delivered-1",
    ]  # fmt: skip
    assert listed(mixed, limit, turn_id="turn-1", status=Status.DELIVERED) == ["webhook-delivered-1", "email-delivered-1"]
    assert listed(mixed, limit, target="t2", channel="email") == ["email-failed_terminal-2", "email-delivered-2"]
    assert listed(mixed, limit, status=Status.QUEUED) == ["waits"]
    assert listed(mixed, limit, channel="nobody") == []


def test_statuses_with_an_index_of_their_own_are_paged(store: SQLStore) -> None:
    for name in "abc":
        end_as(store, name, Status.PARKED)
    assert list(pages(store, 2, status=Status.PARKED)) == [["c", "b"], ["a"]]
    assert list(pages(store, 2, status=Status.PARKED, channel="email")) == [[]]


@pytest.mark.parametrize("window", [3, 1_000])
def test_what_waits_is_listed_newest_first_however_it_waits_and_however_much(
    store: SQLStore, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(listing, "WINDOW", window)
    talk(store, "head", "behind", "further behind")
    claim(store)  # what waits behind the head is blocked now
    enqueue_named(store, "unstamped", stamped=False)
    settle(store, begin(store, "again"), RETRY)
    enqueue_named(store, "plain", "later", delay_ms=1)
    statuses = {name: stored(store, name).status for name in ("head", "behind", "further behind")}
    queued = [name for name in ("further behind", "behind", "head") if statuses[name] == Status.QUEUED]
    assert listed(store, 2, status=Status.QUEUED) == ["later", "plain", "unstamped", *queued]
    assert listed(store, 2, status=Status.FAILED_RETRYABLE) == ["again"]


@pytest.mark.parametrize("wanted", [{"target": "rare"}, {"target": "rare", "status": Status.DELIVERED}])
def test_a_page_that_has_looked_at_enough_ends_and_says_where_to_go_on(
    store: SQLStore, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, object]
) -> None:
    monkeypatch.setattr(listing, "WINDOW", 4)
    enqueue(store, new_row(id="needle", target="rare"), *(new_row() for _ in range(9)))
    if "status" in wanted:
        store.settle([settlement(message, DELIVERED) for message in take(store, claim(store))])
    assert list(pages(store, 2, **wanted)) == [[], [], ["needle"]]


def test_messages_are_found_by_what_names_them(store: SQLStore) -> None:
    enqueue_named(store, "one", turn_id="turn", idempotency_key="key", ordering_key="chat")
    enqueue_named(store, "two", turn_id="turn", channel="email", ordering_key="chat")

    def found(name: str) -> list[str]:
        return [line.id for line in store.find_named(name, ["webhook", "email"], 10)]

    assert (found("one"), found("turn"), found("key"), found("chat")) == (["one"], ["two", "one"], ["one"], ["two", "one"])
    assert found("nothing") == []
    assert len(store.find_named("turn", [], 1)) == 1


def test_a_line_says_nothing_of_what_a_message_says(store: SQLStore) -> None:
    enqueue(store, new_row(payload='"secret"', headers='{"token":"secret"}'))
    assert "secret" not in str(store.page(MessageFilter(), None, 10))
