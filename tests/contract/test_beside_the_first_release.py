"""While a deployment rolls, processes of two releases work on one outbox, before and after its schema is upgraded."""

import pytest

from outbox.integrations.celery import envelope
from outbox.message import Claim
from outbox.store import migrating
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.conftest import OpenStore
from tests.contract.first_release import WRITES, FirstRelease, reads
from tests.contract.steps import (
    CHANNEL,
    DELIVERED,
    MINUTE,
    RETRY,
    RUN_LEASE_MS,
    begin,
    claim,
    enqueue_named,
    ids,
    rescue,
    settle,
    statuses,
    stored,
    take,
)
from tests.contract.test_schema import EARLIER, make_earlier


@pytest.fixture(params=migrating.REVISIONS)
def store(request: pytest.FixtureRequest, database_url: str, open_on: OpenStore, clock: FakeClock) -> SQLStore:
    """This release's store, on a schema of the first release, of one since, or of its own."""
    opened = open_on(database_url, clock=clock)
    migrating.upgrade(opened, request.param)
    return opened


@pytest.fixture
def old(store: SQLStore, clock: FakeClock) -> FirstRelease:
    return FirstRelease(store, lambda: clock.now, CHANNEL)


def test_what_the_old_enqueue_the_new_deliver(store: SQLStore, old: FirstRelease) -> None:
    old.enqueue("a", "b", ordering_key="chat")
    old.enqueue("c")
    for message in (first := take(store, claim(store)[:1])) + take(store, [Claim("c", 0)]):
        settle(store, message, DELIVERED)
    for message in take(store, [*claim(store), Claim("b", 0, "chat")]):
        settle(store, message, DELIVERED)
    assert ids(first) == ["a"]
    assert set(statuses(store).values()) == {"delivered"}
    assert store.violations(10) == []


def test_what_the_new_enqueue_the_old_deliver_in_order(store: SQLStore, old: FirstRelease) -> None:
    enqueue_named(store, "a", "b", ordering_key="chat")
    old.claim()
    assert old.take("b", 0) == []
    [(name, lease)] = old.take("a", 0)
    assert old.deliver(name, lease)
    [(name, lease)] = old.take("b", 0)
    assert old.deliver(name, lease)
    assert statuses(store) == {"a": "delivered", "b": "delivered"}
    assert store.violations(10) == []


def test_a_message_that_one_release_claimed_the_other_takes_and_neither_takes_it_twice(
    store: SQLStore, old: FirstRelease
) -> None:
    enqueue_named(store, "a")
    old.claim()
    [message] = take(store, [Claim("a", 0)])
    assert old.take("a", 0) == []
    settle(store, message, DELIVERED)
    enqueue_named(store, "b")
    claims = claim(store)
    [(name, lease)] = old.take("b", claims[0].lease)
    assert take(store, claims) == []
    assert old.deliver(name, lease)


def test_an_outcome_of_one_release_is_fenced_by_what_the_other_did_since(
    store: SQLStore, old: FirstRelease, clock: FakeClock
) -> None:
    enqueue_named(store, "a")
    old.claim()
    [(name, lease)] = old.take("a", 0)
    clock.advance(RUN_LEASE_MS + 1)
    assert rescue(store) == 1
    assert not old.retry(name, lease)
    clock.advance(MINUTE)
    [again] = take(store, claim(store))
    assert not old.deliver(name, lease)
    assert settle(store, again, RETRY).recorded == {"a"}
    clock.advance(MINUTE)
    [(name, lease)] = [held for each in old.claim() for held in old.take(*each)]
    assert settle(store, again, DELIVERED).lost == {"a"}
    assert old.deliver(name, lease)
    assert stored(store, "a").attempt_count == 3


def test_a_success_of_the_old_that_comes_after_the_news_rescue_is_recorded(
    store: SQLStore, old: FirstRelease, clock: FakeClock
) -> None:
    enqueue_named(store, "a")
    old.claim()
    [(name, lease)] = old.take("a", 0)
    clock.advance(RUN_LEASE_MS + 1)
    rescue(store)
    assert old.deliver(name, lease)
    assert statuses(store) == {"a": "delivered"}


@pytest.mark.parametrize("revision", EARLIER)
def test_what_the_old_was_sending_when_the_schema_was_upgraded_is_recorded(
    database_url: str, open_on: OpenStore, clock: FakeClock, revision: str
) -> None:
    store = open_on(database_url, clock=clock)
    make_earlier(store, revision)
    old = FirstRelease(store, lambda: clock.now, CHANNEL)
    old.enqueue("a")
    own = begin(store, "b")
    [(name, lease)] = old.take("a", 0)
    assert migrating.upgrade(store).is_current
    assert old.deliver(name, lease)
    assert settle(store, own, DELIVERED).recorded == {"b"}
    clock.advance(MINUTE)
    assert store.tally(10) == 2


def test_what_the_old_published_is_understood() -> None:
    assert envelope.unpack(WRITES["v"], WRITES["claims"]) == [Claim("a", 0), Claim("b", 3, "1"), Claim("c", 2, "1")]


def test_what_is_published_now_the_old_understand_or_do_nothing_about() -> None:
    claims = [Claim("a", 0), Claim("b", 3, "chat"), Claim("c", 2, "chat")]

    assert reads(envelope.pack(claims, capped=True, watched=True)) == [("a", 0, None), ("b", 3, 1), ("c", 2, 1)]
    assert reads(envelope.pull()) == []
