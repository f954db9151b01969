"""Order within a key: heads, followers, and what may be taken when."""

import pytest

from outbox.message import Claim
from outbox.policy.retry import Verdict
from outbox.store.records import Taker
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.steps import (
    CHANNEL,
    DEAD,
    DEFERRED,
    DELIVERED,
    MINUTE,
    NOW,
    PARKED,
    RESCUED,
    RETRY,
    RUN_LEASE_MS,
    SECOND,
    WITHHELD,
    begin,
    begin_again,
    cancel,
    claim,
    enqueue_named,
    ids,
    put,
    replay,
    settle,
    settlement,
    statuses,
    stored,
    take,
    talk,
)


@pytest.mark.proves("T40")
def test_t40_the_rows_of_a_key_travel_together_in_order(store: SQLStore) -> None:
    talk(store, "1", "2", "3")
    assert ids(claim(store)) == ["1", "2", "3"]


def test_no_more_rows_of_a_key_travel_together_than_were_asked_for(store: SQLStore) -> None:
    talk(store, "1", "2", "3", "4")
    assert ids(claim(store, per_key=3)) == ["1", "2", "3"]
    assert ids(claim(store)) == []


def test_keys_share_the_room_of_a_claim(store: SQLStore) -> None:
    for number in range(4):
        enqueue_named(store, f"a{number}", ordering_key="a")
        enqueue_named(store, f"b{number}", ordering_key="b")
    assert ids(claim(store, limit=4)) == ["a0", "a1", "b0", "b1"]


def test_the_same_key_in_another_channel_is_another_key(store: SQLStore) -> None:
    begin(store, "1", ordering_key="chat")
    enqueue_named(store, "2", ordering_key="chat", channel="email")
    assert ids(take(store, claim(store, channel="email"), channel="email")) == ["2"]


def test_rows_without_a_key_and_of_other_keys_do_not_wait(store: SQLStore) -> None:
    begin(store, "1", ordering_key="chat")
    enqueue_named(store, "free")
    enqueue_named(store, "other", ordering_key="other")
    enqueue_named(store, "empty", ordering_key="")
    assert sorted(ids(take(store, claim(store)))) == ["empty", "free", "other"]


def test_a_follower_is_not_taken_before_its_head_has_ended(store: SQLStore) -> None:
    talk(store, "1", "2")
    head, follower = claim(store)
    assert ids(take(store, [head])) == ["1"]
    assert take(store, [follower]) == []
    assert statuses(store) == {"1": "sending", "2": "queued"}
    assert stored(store, "2").attempt_count == 0


def test_rows_of_a_key_may_be_taken_together_by_whoever_sends_them_in_order(store: SQLStore) -> None:
    talk(store, "1", "2", "3")
    enqueue_named(store, "other", ordering_key="another chat")
    assert ids(take(store, claim(store))) == ["1", "2", "3", "other"]
    assert {stored(store, name).attempt_count for name in "123"} == {1}


def test_rows_of_a_key_are_not_taken_together_past_one_that_stands_between_them(store: SQLStore) -> None:
    talk(store, "1", "2", "3")
    first, _, third = claim(store)
    assert ids(take(store, [first, third])) == ["1"]
    assert statuses(store) == {"1": "sending", "2": "dispatched", "3": "queued"}
    assert stored(store, "3").attempt_count == 0


@pytest.mark.parametrize("end", ["cancelled", "taken by another", "expired"])
def test_rows_behind_one_that_is_not_admitted_are_given_back_uncharged(store: SQLStore, clock: FakeClock, end: str) -> None:
    enqueue_named(store, "1", ordering_key="chat", ttl_ms=SECOND)
    talk(store, "2", "3")
    claims = claim(store)
    if end == "cancelled":
        cancel(store, "1")
    elif end == "expired":
        clock.advance(SECOND + 1)
    else:
        take(store, claims[:1])
    assert take(store, claims) == []
    rows = [stored(store, name) for name in "23"]
    assert [(row.status, row.attempt_count) for row in rows] == [("queued", 0)] * 2


def test_claims_of_different_keys_under_one_name_do_not_open_either_key(store: SQLStore) -> None:
    enqueue_named(store, "a1", ordering_key="a")
    enqueue_named(store, "a2", ordering_key="a")
    enqueue_named(store, "b1", ordering_key="b")
    leases = {each.id: each.lease for each in claim(store)}
    together = [Claim(name, leases[name], ordering_key="1") for name in ("b1", "a2")]
    assert ids(take(store, together)) == ["b1"]
    assert stored(store, "a2").status == "queued"


@pytest.mark.parametrize("key_of_the_first", ["a", None])
def test_behind_a_row_of_another_key_under_one_name_nothing_starts_beside_one_that_is_being_sent(
    store: SQLStore, clock: FakeClock, key_of_the_first: str | None
) -> None:
    enqueue_named(store, "first", ordering_key=key_of_the_first)
    enqueue_named(store, "reminder", ordering_key="b", delay_ms=SECOND)
    begin(store, "overtook it", ordering_key="b")
    clock.advance(SECOND)
    together = [Claim(name, stored(store, name).lease, ordering_key="1") for name in ("first", "reminder")]
    assert ids(take(store, together)) == ["first"]
    assert statuses(store) == {"first": "sending", "reminder": "queued", "overtook it": "sending"}


def test_a_follower_that_overtakes_its_head_in_the_broker_is_given_back(store: SQLStore) -> None:
    talk(store, "1", "2")
    head, follower = claim(store)
    assert take(store, [follower]) == []
    assert statuses(store) == {"1": "dispatched", "2": "queued"}
    assert ids(take(store, [head])) == ["1"]


@pytest.mark.parametrize("verdict", [DELIVERED, DEAD, WITHHELD])
def test_when_the_head_has_ended_the_next_may_start(store: SQLStore, verdict: Verdict) -> None:
    talk(store, "1", "2")
    head, follower = claim(store)
    (message,) = take(store, [head])
    settle(store, message, verdict)
    assert ids(take(store, [follower])) == ["2"]


@pytest.mark.parametrize("verdict", [RETRY, DEFERRED, PARKED, RESCUED])
def test_while_the_head_waits_nothing_of_its_key_starts(store: SQLStore, verdict: Verdict) -> None:
    talk(store, "1", "2")
    head, follower = claim(store)
    (message,) = take(store, [head])
    settle(store, message, verdict)
    assert take(store, [follower]) == []
    assert claim(store) == []
    assert not store.pending([CHANNEL]).lanes


def test_released_followers_come_again_behind_their_head(store: SQLStore, clock: FakeClock) -> None:
    talk(store, "1", "2", "3")
    head, *followers = claim(store)
    (message,) = take(store, [head])
    settle(store, message, RETRY)
    store.release(followers)
    assert claim(store) == []
    clock.advance(5 * SECOND)
    assert ids(claim(store)) == ["1", "2", "3"]


def test_a_parked_row_holds_its_key_and_a_cancel_gives_it_free(store: SQLStore) -> None:
    settle(store, begin(store, "1", ordering_key="chat"), PARKED)
    talk(store, "2")
    assert claim(store) == []
    cancel(store, "1")
    assert ids(claim(store)) == ["2"]


def test_a_replayed_head_goes_first_again(store: SQLStore) -> None:
    settle(store, begin(store, "1", ordering_key="chat"), DEAD)
    talk(store, "2")
    replay(store, "1")
    assert ids(claim(store)) == ["1", "2"]


def test_a_never_tried_future_row_does_not_hold_back_later_ones(store: SQLStore) -> None:
    talk(store, "reminder", delay_ms=MINUTE)
    talk(store, "2", "3")
    claims = claim(store)
    assert ids(claims) == ["2", "3"]
    assert ids(take(store, claims)) == ["2", "3"]


@pytest.mark.parametrize("verdict", [RETRY, DEFERRED])
def test_a_head_that_waits_for_its_next_attempt_does(store: SQLStore, verdict: Verdict) -> None:
    settle(store, begin(store, "1", ordering_key="chat"), verdict)
    talk(store, "2")
    assert claim(store) == []


def test_a_head_postponed_for_its_destination_does(store: SQLStore) -> None:
    talk(store, "1", target="down")
    talk(store, "2", target="up")
    assert claim(store, closed={"down": NOW + MINUTE}) == []
    assert claim(store) == []


def test_a_follower_of_a_closed_destination_stays_and_so_does_what_comes_after_it(store: SQLStore) -> None:
    talk(store, "1", target="up")
    talk(store, "2", target="down")
    talk(store, "3", target="up")
    assert ids(claim(store, closed={"down": NOW + MINUTE})) == ["1"]
    assert claim(store) == []


def test_while_a_row_of_a_key_is_being_sent_no_other_take_gets_one_of_it(store: SQLStore, clock: FakeClock) -> None:
    talk(store, "reminder", delay_ms=SECOND)
    talk(store, "2", "3")
    claims = claim(store)
    take(store, claims[:1])
    clock.advance(SECOND)
    take(store, [*claims, Claim("reminder", 0), Claim("3", 0)])
    assert list(statuses(store).values()).count("sending") == 1


def test_a_row_with_an_unknown_outcome_takes_no_followers_along_and_follows_nobody(store: SQLStore, clock: FakeClock) -> None:
    settle(store, begin(store, "1", ordering_key="chat"), RESCUED)
    talk(store, "2")
    clock.advance(5 * SECOND)
    assert [(each.id, each.alone) for each in claim(store)] == [("1", True)]
    enqueue_named(store, "a", "b", "c", ordering_key="other")
    put(store, "b", outcome_unknown=1)
    assert ids(claim(store)) == ["a"]


def test_an_unstamped_row_holds_back_what_comes_after_it(store: SQLStore) -> None:
    talk(store, "1", stamped=False, max_attempts=None)
    talk(store, "2")
    assert claim(store) == []


def test_a_conversation_of_failures_and_retries_ends_in_order(store: SQLStore, clock: FakeClock) -> None:
    names = [f"{number:02}" for number in range(12)]
    talk(store, *names)
    delivered: list[str] = []
    while len(delivered) < len(names):
        for each in claim(store, per_key=3):
            for message in take(store, [each]):
                fails = message.attempt_count == 1 and int(message.id) % 3 == 0
                settle(store, message, RETRY if fails else DELIVERED)
                if not fails:
                    delivered.append(message.id)
        clock.advance(5 * SECOND)
    assert delivered == names


def test_settle_of_a_head_and_take_of_its_follower_in_one_transaction_keep_the_chain_going(store: SQLStore) -> None:
    talk(store, *(f"{number}" for number in range(5)))
    first, *rest = claim(store)
    (message,) = take(store, [first])
    for follower in rest:
        _, (message,) = store.settle_and_take(
            [settlement(message, DELIVERED)], [follower], Taker(CHANNEL, "worker-1", RUN_LEASE_MS)
        )
    settle(store, message, DELIVERED)
    assert set(statuses(store).values()) == {"delivered"}


def test_a_claim_that_does_not_say_that_its_row_has_a_key_is_not_admitted_past_the_keys_order(store: SQLStore) -> None:
    talk(store, "1", "2")
    claims = [Claim(each.id, each.lease) for each in claim(store)]
    assert "2" not in ids(take(store, claims))


def test_a_retried_head_is_begun_again_before_its_followers(store: SQLStore, clock: FakeClock) -> None:
    talk(store, "1", "2")
    head, _ = claim(store)
    settle(store, *take(store, [head]), RETRY)
    clock.advance(MINUTE + 1)
    assert ids(take(store, store.redispatch(CHANNEL, 100))) == []
    assert begin_again(store, "1").attempt_count == 2
