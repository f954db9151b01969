"""The relay: what is due becomes delivery tasks, and whatever one channel or the broker does, nothing is lost or charged."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from outbox import Channel, NewMessage, Outbox
from outbox.batching import Batch, batches
from outbox.errors import BrokerUnavailable
from outbox.integrations.celery import envelope
from outbox.message import Claim
from outbox.policy.retry import LEASE_RAN_OUT, PROCESS_DIED
from outbox.relay import Relay
from outbox.store.records import GateKind
from outbox.telemetry import BrokerFailed, RelayIdled, RelayPassed
from outbox.testing import FakeClock
from tests.integration.conftest import OpenOutbox
from tests.integration.loops.scene import (
    Capture,
    Chat,
    Events,
    Row,
    claim,
    deliver,
    enqueue,
    enqueue_many,
    put,
    rows,
    statuses,
)  # fmt: skip


class Broken(Capture):
    """A dispatcher that raises for one channel, or for all."""

    def __init__(self, error: Exception, channel: str | None = None) -> None:
        super().__init__()
        self.error: Exception | None = error
        self.channel = channel
        self.tries = 0

    def dispatch(self, batches: Sequence[Batch]) -> None:
        self.tries += 1
        if self.error is not None and self.channel in (None, batches[0].channel):
            raise self.error
        super().dispatch(batches)


def relay(outbox: Outbox, dispatcher: Any, **options: Any) -> Relay:
    return Relay(outbox.store, outbox.channels, dispatcher, outbox.telemetry, outbox.owner, **options)


def test_a_pass_hands_out_everything_that_is_due(outbox: Outbox) -> None:
    outbox.register(Chat(batch_size=10))
    ids = enqueue_many(outbox, 25)
    capture = Capture()
    report = relay(outbox, capture, claim_limit=7).run_once(budget_s=60)
    assert sorted(claim.id for claim in capture.claims) == sorted(ids)
    assert (report.claimed, report.tasks) == (25, len(capture.batches))
    assert set(statuses(outbox, ids)) == {"dispatched"}


def test_a_pass_with_nothing_due_tells_only_that_it_was(outbox: Outbox) -> None:
    outbox.register(Chat())
    events = Events(outbox)
    assert relay(outbox, Capture()).run_once().tasks == 0
    assert events.all == [RelayIdled()]


def test_r18_a_pass_ends_with_its_budget_and_charges_nothing(outbox: Outbox) -> None:
    outbox.register(Chat())
    ids = enqueue_many(outbox, 10)
    report = relay(outbox, Capture(), claim_limit=4).run_once(budget_s=0.0)
    assert report.claimed == 4
    assert all(row.attempt_count == 0 for row in rows(outbox, ids))


def test_r9_a_pass_that_is_told_to_stop_claims_nothing(outbox: Outbox) -> None:
    outbox.register(Chat())
    ids = enqueue_many(outbox, 3)
    relay(outbox, Capture()).run_once(should_stop=lambda: True)
    assert statuses(outbox, ids) == ["queued"] * 3


def test_what_is_above_the_channels_allowance_waits_and_the_task_asks_for_more(outbox: Outbox) -> None:
    outbox.register(Chat(max_in_flight=4))
    ids = enqueue_many(outbox, 10)
    capture = Capture()
    relay(outbox, capture).run_once(budget_s=60)
    assert len(capture.claims) == 4
    assert [batch.capped for batch in capture.batches] == [True]
    assert statuses(outbox, ids).count("queued") == 6


def test_a_pass_that_leaves_a_crumb_of_the_allowance_is_asked_for_more_as_well(outbox: Outbox) -> None:
    """Where rows of a closed target were met, claims are not full, and what is left is too little for a pass that was woken."""
    outbox.register(Chat(max_in_flight=100))
    outbox.store.close("chat", "down", GateKind.GONE, for_ms=None, reason="it is down")
    for target, count in (("up", 49), ("down", 4), ("up", 100)):
        enqueue_many(outbox, count, target=target)
    capture = Capture()

    relay(outbox, capture, claim_limit=50).run_once(budget_s=60, woken=True)

    assert len(capture.claims) == 99
    assert any(batch.capped for batch in capture.batches)


def test_urgent_messages_get_what_a_flood_of_others_frees(outbox: Outbox) -> None:
    outbox.register(Chat(max_in_flight=20))
    enqueue_many(outbox, 60)
    first = claim(outbox)
    urgent = enqueue_many(outbox, 5, priority=9)
    deliver(outbox, first[:3])

    assert {each.id for each in claim(outbox)} <= {*urgent}
    deliver(outbox, first[3:6])
    claim(outbox)

    assert statuses(outbox, urgent) == ["dispatched"] * 5


def test_a_flood_of_urgent_messages_leaves_room_for_others(outbox: Outbox) -> None:
    outbox.register(Chat(max_in_flight=20))
    enqueue_many(outbox, 60, priority=9)
    other = enqueue_many(outbox, 60)

    assert len(claim(outbox)) == 20

    assert statuses(outbox, other).count("dispatched") == 2


def test_what_the_urgent_do_not_use_is_for_the_others(outbox: Outbox) -> None:
    outbox.register(Chat(max_in_flight=20))
    urgent = enqueue_many(outbox, 3, priority=9)
    enqueue_many(outbox, 60)
    claims = claim(outbox)
    assert len(claims) == 20
    assert {each.id for each in claims[:3]} == {*urgent}


def test_a_pass_that_was_woken_leaves_crumbs_of_an_allowance_to_the_tick(outbox: Outbox) -> None:
    """Else each message that ends beside a full allowance costs a claim, a publication and a task for the next one."""
    outbox.register(Chat(max_in_flight=20))
    enqueue_many(outbox, 30)
    first, second, third, *_ = claim(outbox)

    def claimed(**options: bool) -> int:
        return relay(outbox, Capture()).run_once(**options).claimed

    deliver(outbox, [first])
    assert claimed(woken=True) == 0
    deliver(outbox, [second])
    assert claimed(woken=True) == 2
    deliver(outbox, [third])
    assert (claimed(woken=True), claimed()) == (0, 1)


def test_a_stalled_channel_fills_its_own_allowance_and_nothing_else(outbox: Outbox) -> None:
    outbox.register(Chat("stalled", max_in_flight=2))
    outbox.register(Chat("lively"))
    enqueue_many(outbox, 10, channel="stalled")
    enqueue_many(outbox, 10, channel="lively")
    capture = Capture()
    relay(outbox, capture).run_once(budget_s=60)
    assert [sum(len(b.claims) for b in capture.batches if b.channel == name) for name in ("stalled", "lively")] == [2, 10]


# Broker failures.


def test_invariant_4_a_broker_that_is_down_releases_the_rows_uncharged(outbox: Outbox) -> None:
    outbox.register(Chat())
    events = Events(outbox)
    ids = enqueue_many(outbox, 3)
    report = relay(outbox, Broken(BrokerUnavailable("refused"))).run_once()
    assert report.claimed == 0
    assert [(row.status, row.attempt_count, row.lease) for row in rows(outbox, ids)] == [("queued", 0, 0)] * 3
    assert [(event.released, event.error) for event in events.of(BrokerFailed)] == [(3, "refused")]
    assert events.of(RelayPassed) == []


def test_a_broker_that_is_down_is_left_alone_for_a_growing_while(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("outbox.relay.time.monotonic", lambda: now)
    outbox.register(Chat())
    outbox.register(Chat("other"))
    enqueue_many(outbox, 1)
    enqueue_many(outbox, 1, channel="other")
    down = Broken(BrokerUnavailable("refused"))
    passes = relay(outbox, down)
    tried_at = []
    for _ in range(130):
        before = down.tries
        passes.run_once()
        if down.tries > before:
            tried_at.append(now)
            assert down.tries == before + 1  # not once more for each channel
        now += 0.5
    pauses = [later - earlier for earlier, later in itertools.pairwise(tried_at)]
    assert pauses == [1, 2, 4, 8, 16, 30]
    now += 100
    down.error = None
    assert passes.run_once().claimed == 2


def test_a_copy_that_got_through_a_failed_publish_is_as_good_as_the_next(outbox: Outbox) -> None:
    chat = Chat()
    outbox.register(chat)
    (message_id,) = enqueue_many(outbox, 1)
    first = claim(outbox)
    outbox.store.release(first)
    second = claim(outbox)
    assert first == second
    deliver(outbox, first)
    deliver(outbox, second)
    assert (chat.sent, statuses(outbox, [message_id])) == (["0"], ["delivered"])


# Invariant 12: one broken channel.


def test_invariant_12_a_channel_that_cannot_be_published_does_not_stop_another(outbox: Outbox) -> None:
    for name in ("a", "b", "c"):
        outbox.register(Chat(name))
        enqueue_many(outbox, 2, channel=name)
    broken = Broken(RuntimeError("no such serializer"), "b")
    with pytest.raises(RuntimeError, match="no such serializer"):
        relay(outbox, broken, claim_limit=1).run_once(budget_s=60)
    assert sorted(batch.channel for batch in broken.batches) == ["a", "a", "c", "c"]
    assert {(row.status, row.attempt_count) for row in rows(outbox, [m.id for m in outbox.list(channel="b")])} == {
        ("queued", 0)
    }


def test_every_channel_that_fails_is_told(outbox: Outbox) -> None:
    for name in ("a", "b"):
        outbox.register(Chat(name))
        enqueue_many(outbox, 1, channel=name)
    with pytest.raises(ExceptionGroup) as told:
        relay(outbox, Broken(RuntimeError("broken"))).run_once()
    assert len(told.value.exceptions) == 2


class Keyless(Chat):
    """An adapter whose ordering keys cannot always be had."""

    def ordering_key_for(self, message: Any) -> Any:
        return {"raises": lambda: 1 / 0, "number": lambda: 7, "long": lambda: "k" * 9_000}.get(message.target, lambda: "key")()


def test_invariant_12_a_row_of_which_no_ordering_key_can_be_made_does_not_keep_others_from_being_stamped(
    open_outbox: OpenOutbox,
) -> None:
    application, workers = open_outbox(), open_outbox()
    workers.register(Keyless(max_attempts=7))
    ids = enqueue(application, *(NewMessage(channel="chat", target=t) for t in ("raises", "number", "long", "fine")))
    claim(workers)
    found = rows(workers, ids)
    assert [row.ordering_key for row in found] == [None, None, None, "key"]
    assert {row.max_attempts for row in found} == {7}


# Stamping.


def test_rows_of_an_application_that_knows_no_channel_get_its_defaults(open_outbox: OpenOutbox) -> None:
    application, workers = open_outbox(), open_outbox()
    workers.register(Chat(max_attempts=3, ttl=60, ordered=True))
    plain, own = enqueue(
        application,
        NewMessage(channel="chat", target="room"),
        NewMessage(channel="chat", target="room", max_attempts=9, ordering_key="k", expires_in=5),
    )
    relay(workers, Capture()).run_once(budget_s=60)
    stamped, kept = Row(workers, plain), Row(workers, own)
    assert (stamped.max_attempts, stamped.ordering_key) == (3, "|room")
    assert stamped.expires_at == stamped.queued_at + 60_000
    assert (kept.max_attempts, kept.ordering_key, kept.expires_at) == (9, "k", kept.queued_at + 5_000)


def test_rows_of_a_channel_that_is_not_registered_wait_untouched(outbox: Outbox) -> None:
    outbox.register(Chat())
    ids = enqueue(outbox, NewMessage(channel="chat"))
    put(outbox, ids[0], channel="unheard-of")
    assert claim(outbox) == []
    assert statuses(outbox, ids) == ["queued"]


# Gates.


def test_a_paused_channel_is_left_out_and_the_others_go_on(outbox: Outbox) -> None:
    outbox.register(Chat("paused"))
    outbox.register(Chat("open"))
    held, sent = enqueue_many(outbox, 1, channel="paused") + enqueue_many(outbox, 1, channel="open")
    outbox.pause("paused", reason="maintenance")
    assert [each.id for each in claim(outbox)] == [sent]
    assert Row(outbox, held).attempt_count == 0
    outbox.resume("paused")
    assert [each.id for each in claim(outbox)] == [held]


def test_a_paused_channels_overdue_rows_are_not_published_again(open_outbox: OpenOutbox, clock: FakeClock) -> None:
    outbox = open_outbox(clock=clock)
    outbox.register(Chat())
    (message_id,) = enqueue_many(outbox, 1)
    claim(outbox)
    outbox.pause("chat")
    clock.advance(120_000)
    assert claim(outbox) == []
    outbox.resume("chat")
    assert [each.id for each in claim(outbox)] == [message_id]


def test_a_paused_target_is_postponed_uncharged_and_the_others_go_on(outbox: Outbox) -> None:
    outbox.register(Chat())
    ids = enqueue_many(outbox, 3)
    outbox.pause("chat", target="1", for_s=3600)
    assert sorted(each.id for each in claim(outbox)) == sorted([ids[0], ids[2]])
    row = Row(outbox, ids[1])
    assert (row.status, row.attempt_count, row.lease) == ("queued", 0, 1)


# Publishing again.


def test_rows_whose_horizon_passed_are_published_again_with_the_same_lease_outside_the_cap(
    open_outbox: OpenOutbox, clock: FakeClock
) -> None:
    outbox = open_outbox(clock=clock)
    outbox.register(Chat(max_in_flight=3))
    enqueue_many(outbox, 3)
    lost = claim(outbox)
    clock.advance(61_000)
    capture = Capture()
    report = relay(outbox, capture).run_once()
    assert sorted(capture.claims, key=lambda c: c.id) == sorted(lost, key=lambda c: c.id)
    assert (report.redispatched, report.claimed) == (3, 0)


def test_lost_messages_of_one_key_are_published_again_together_and_in_order(open_outbox: OpenOutbox, clock: FakeClock) -> None:
    outbox = open_outbox(clock=clock)
    chat = Chat(batch_size=4)
    outbox.register(chat)
    enqueue(outbox, *(NewMessage(channel="chat", target=f"{key}{n}", ordering_key=key) for n in range(3) for key in "ab"))
    claim(outbox)
    clock.advance(61_000)
    capture = Capture()
    relay(outbox, capture).run_once()
    for batch in capture.batches:
        assert deliver(outbox, batch.claims).refused == 0
    assert [target for target in chat.sent if target[0] == "a"] == ["a0", "a1", "a2"]
    assert [target for target in chat.sent if target[0] == "b"] == ["b0", "b1", "b2"]


# Packing.


def pack(batch_size: int, claims: Sequence[Claim]) -> list[list[str]]:
    channel: Channel = Chat(batch_size=batch_size)
    return [[claim.id for claim in batch.claims] for batch in batches(channel, claims)]


def test_claims_are_packed_up_to_the_batch_size() -> None:
    assert pack(2, [Claim(name, 0) for name in "abcde"]) == [["a", "b"], ["c", "d"], ["e"]]
    assert pack(2, []) == []


def test_claims_of_one_key_are_never_torn_apart_wherever_they_stand() -> None:
    claims = [Claim("a1", 0, "a"), Claim("x", 0), Claim("b1", 0, "b"), Claim("a2", 0, "a"), Claim("a3", 0, "a")]
    assert pack(3, claims) == [["a1", "a2", "a3"], ["x", "b1"]]
    assert pack(4, claims) == [["a1", "a2", "a3", "x"], ["b1"]]


def test_a_key_with_more_rows_than_a_batch_holds_stays_together() -> None:
    assert pack(2, [Claim(f"a{n}", 0, "a") for n in range(3)]) == [["a0", "a1", "a2"]]


def test_an_unknown_outcome_travels_alone() -> None:
    claims = [Claim("a", 0), Claim("poison", 3, alone=True), Claim("b", 0), Claim("c", 0)]
    assert pack(10, claims) == [["a"], ["poison"], ["b", "c"]]


@pytest.mark.parametrize(
    ("error", "suspect"), [(PROCESS_DIED, True), (LEASE_RAN_OUT, True), ("no answer within 10 s", False), (None, False)]
)
def test_a_message_whose_process_died_is_told_from_one_that_was_not_answered(
    outbox: Outbox, error: str | None, suspect: bool
) -> None:
    outbox.register(Chat())
    [message_id] = enqueue_many(outbox, 1)
    put(outbox, message_id, outcome_unknown=1, last_error=error)

    [found] = claim(outbox)

    assert (found.alone, found.suspect) == (True, suspect)
    assert envelope.pack([found], capped=False).get("suspect", False) is suspect


# In this process.


def test_drain_delivers_until_nothing_is_due(outbox: Outbox) -> None:
    chat = Chat(concurrency=5)
    outbox.register(chat)
    enqueue_many(outbox, 30)
    enqueue_many(outbox, 20, ordering_key="k")
    assert outbox.drain() == 50
    assert len(chat.sent) == 50
    assert outbox.drain() == 0
