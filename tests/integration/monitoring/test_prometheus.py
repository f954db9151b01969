"""``instrument(outbox)``: what is counted is what happened, and what is asked is what the database holds."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from outbox import NewMessage, Outbox, OutcomeUnknown, PermanentFailure, RetryLater
from outbox.errors import BrokerUnavailable, ConfigurationError, DatabaseUnavailable
from outbox.integrations.prometheus import Backlog, instrument
from outbox.integrations.prometheus.backlog import UNREGISTERED
from outbox.integrations.prometheus.catalogue import ASKED, COUNTED
from outbox.lifecycle import Status
from outbox.policy.destination import Breaker
from outbox.policy.retry import RELEASED, Backoff
from outbox.relay import Relay
from outbox.telemetry import AttemptFinished, LeaseLost, Maintained, Nudged, NudgeFailed, SettleDelayed
from outbox.testing import FakeClock
from tests.integration.conftest import OpenOutbox
from tests.integration.loops.scene import Capture, Chat, claim, deliver, enqueue, enqueue_many, raising

FAILURES = {
    "retry": raising(RetryLater("as the target asked")),
    "rejected": raising(PermanentFailure("as the target asked")),
    "unknown": raising(OutcomeUnknown("as the target asked")),
}

NOT_BEGUN = AttemptFinished(
    message_id="some id", channel="chat", attempt=1, lease=1, outcome=RELEASED, status="queued", duration_ms=5, waited_ms=0,
    next_due_ms=None, error=None,
)  # fmt: skip


class Metrics:
    """The registry of one process, as a scrape sees it."""

    def __init__(self, *outboxes: Outbox) -> None:
        self.registry = CollectorRegistry()
        for outbox in outboxes:
            instrument(outbox, self.registry)

    def families(self) -> dict[str, Metric]:
        text = generate_latest(self.registry).decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    def values(self, name: str, *labels: str) -> dict[Any, float]:
        """The samples of that name by the values of ``labels``; without labels there is one."""
        found = [sample for family in self.families().values() for sample in family.samples if sample.name == name]
        return {tuple(sample.labels[label] for label in labels): sample.value for sample in found if sample.value}

    def value(self, name: str) -> float:
        (value,) = self.values(name).values() or [0.0]
        return value


def moody(name: str = "chat", **policy: Any) -> Chat:
    """A channel that fails as a message's target says."""
    return Chat(name, behaviour=FAILURES, backoff=Backoff((60.0,), jitter=0), **policy)


@pytest.fixture
def metrics(outbox: Outbox) -> Metrics:
    return Metrics(outbox)


def test_attempts_are_counted_by_channel_and_outcome_as_the_database_records_them(outbox: Outbox, metrics: Metrics) -> None:
    outbox.register(moody())
    outbox.register(moody("other"))
    targets = ["", "", "retry", "rejected", "unknown"]
    enqueue(outbox, *(NewMessage(channel=name, target=target) for name in ("chat", "other") for target in targets))

    outbox.relay_once()

    counted = metrics.values("outbox_attempts_total", "channel", "outcome")
    outcomes = {"delivered": 2, "retry": 1, "rejected": 1, "unknown": 1}
    assert counted == {(name, outcome): count for name in ("chat", "other") for outcome, count in outcomes.items()}
    assert metrics.values("outbox_attempt_duration_seconds_count", "channel") == {("chat",): 5, ("other",): 5}
    assert metrics.values("outbox_due_to_sent_seconds_count", "channel") == {("chat",): 2, ("other",): 2}


def test_the_time_from_due_to_sent_is_that_of_the_message(open_outbox: OpenOutbox, clock: FakeClock) -> None:
    outbox = open_outbox(clock=clock)
    metrics = Metrics(outbox)
    outbox.register(Chat())
    enqueue_many(outbox, 1, delay=60)
    clock.advance(60_000 + 40_000)

    outbox.relay_once()

    assert metrics.values("outbox_due_to_sent_seconds_bucket", "le").keys() == {
        ("60.0",),
        ("300.0",),
        ("900.0",),
        ("3600.0",),
        ("+Inf",),
    }


def test_an_enqueue_counts_the_messages_that_it_wrote_and_not_those_that_stood_there_already(
    outbox: Outbox, metrics: Metrics
) -> None:
    keyed = NewMessage(channel="chat", idempotency_key="order 7")
    enqueue(outbox, keyed, NewMessage(channel="chat"), NewMessage(channel="mail"))
    enqueue(outbox, keyed)

    assert metrics.values("outbox_enqueued_total", "channel") == {("chat",): 2, ("mail",): 1}


def test_a_relay_counts_its_passes_and_what_they_claimed(outbox: Outbox, metrics: Metrics) -> None:
    outbox.register(Chat(batch_size=2))
    enqueue_many(outbox, 3)

    claim(outbox)
    claim(outbox)

    names = ("relay_passes", "claimed", "delivery_tasks", "redispatched")
    assert [metrics.value(f"outbox_{name}_total") for name in names] == [2, 3, 2, 0]


def test_what_a_delivery_task_claims_by_itself_is_counted_and_no_pass_of_a_relay(outbox: Outbox, metrics: Metrics) -> None:
    chat = Chat(batch_size=2)
    outbox.register(chat)
    enqueue_many(outbox, 2)

    Relay(outbox.store, outbox.channels, Capture(), outbox.telemetry, outbox.owner).pull(chat)

    assert [metrics.value(f"outbox_{name}_total") for name in ("relay_passes", "claimed", "delivery_tasks")] == [0, 2, 1]
    assert metrics.values("outbox_pulls_total", "channel") == {("chat",): 1}


def test_copies_that_are_turned_away_are_counted(outbox: Outbox, metrics: Metrics) -> None:
    outbox.register(Chat())
    enqueue_many(outbox, 3)
    copies = claim(outbox)

    deliver(outbox, copies)
    deliver(outbox, copies)

    assert metrics.values("outbox_take_refused_total", "channel") == {("chat",): 3}
    assert metrics.values("outbox_attempts_total", "channel", "outcome") == {("chat", "delivered"): 3}


def test_a_broker_that_is_away_is_counted(outbox: Outbox, metrics: Metrics) -> None:
    class Away:
        def dispatch(self, batches: object) -> None:
            raise BrokerUnavailable("refused")

    outbox.register(Chat())
    enqueue_many(outbox, 3)

    Relay(outbox.store, outbox.channels, Away(), outbox.telemetry, outbox.owner).run_once()

    assert [metrics.value(f"outbox_{name}_total") for name in ("broker_failures", "relay_passes", "claimed")] == [1, 1, 0]


def test_what_else_the_engine_tells_is_counted(outbox: Outbox, metrics: Metrics) -> None:
    for event in (
        LeaseLost("some id", "chat", 3, "delivered"), SettleDelayed("chat", 4, "locked"), Nudged(), Nudged(),
        NudgeFailed("refused"), Maintained("rescue", 5), NOT_BEGUN,
    ):  # fmt: skip
        outbox.telemetry.emit(event)

    assert metrics.values("outbox_lease_lost_total", "channel", "outcome") == {("chat", "delivered"): 1}
    assert metrics.values("outbox_settle_delayed_total", "channel") == {("chat",): 4}
    assert metrics.values("outbox_nudges_total", "result") == {("published",): 2, ("failed",): 1}
    assert metrics.values("outbox_maintained_total", "service") == {("rescue",): 5}
    assert metrics.values("outbox_released_total", "channel") == {("chat",): 1}
    assert metrics.values("outbox_attempts_total", "channel") == {}


def test_the_backlog_is_what_the_database_holds(outbox: Outbox, metrics: Metrics) -> None:
    outbox.register(moody(on_unknown="park", max_attempts=2))
    enqueue(outbox, *(NewMessage(channel="chat", target=target) for target in ("", "", "retry", "rejected", "unknown")))
    outbox.relay_once()
    enqueue_many(outbox, 2)
    claim(outbox)
    enqueue_many(outbox, 4)

    told = metrics.values("outbox_messages", "channel", "status")

    (stats,) = outbox.stats()
    assert told == {("chat", str(status)): rows for status, rows in stats.by_status.items()}
    assert {status for _, status in told} == {
        "queued", "dispatched", "delivered", "failed_retryable", "failed_terminal", "parked",
    }  # fmt: skip


def test_a_status_in_which_nothing_stands_is_told_as_none_so_that_a_graph_goes_down_to_it(
    outbox: Outbox, metrics: Metrics
) -> None:
    outbox.register(Chat())

    (family,) = (family for name, family in metrics.families().items() if name == "outbox_messages")

    assert {(sample.labels["status"], sample.value) for sample in family.samples} == {(str(status), 0) for status in Status}


@pytest.mark.parametrize("registered", [True, False], ids=["a worker", "an application that only enqueues"])
def test_the_age_of_the_oldest_message_that_is_due_is_told(open_outbox: OpenOutbox, clock: FakeClock, registered: bool) -> None:
    worker, outbox = open_outbox(clock=clock), open_outbox(clock=clock)
    worker.register(Chat())
    enqueue_many(worker, 1, delay=10)
    enqueue_many(worker, 1, delay=500)

    clock.advance(70_000)

    metrics = Metrics(worker if registered else outbox)
    assert metrics.values("outbox_oldest_due_seconds", "channel") == {("chat",): 60}


def test_what_is_closed_is_told_without_a_word_about_whom_it_was_to_reach(outbox: Outbox, metrics: Metrics) -> None:
    outbox.register(moody(target_breaker=Breaker(failures=1)))
    outbox.register(Chat("mail"))
    outbox.pause("mail", reason="the printer burns")
    outbox.pause("chat", target="-100123")
    enqueue_many(outbox, 1, target="retry")
    outbox.relay_once()

    closed = metrics.values("outbox_gates_closed", "channel", "kind", "scope")

    assert closed == {("mail", "pause", "channel"): 1, ("chat", "pause", "target"): 1, ("chat", "breaker", "target"): 1}
    assert "-100123" not in generate_latest(metrics.registry).decode()


def test_names_that_nobody_registered_share_one_label(open_outbox: OpenOutbox) -> None:
    application, worker = open_outbox(), open_outbox()
    for number in range(3):
        enqueue_many(application, 2, channel=f"made-up-{number}")
    worker.register(Chat())

    assert Metrics(worker).values("outbox_messages", "channel", "status") == {(UNREGISTERED, "queued"): 6}


def test_a_database_that_does_not_answer_costs_a_scrape_the_backlog_and_nothing_else(
    outbox: Outbox, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue_many(outbox, 3)
    assert metrics.value("outbox_database_up") == 1

    def refuse(_most: int) -> Any:
        raise DatabaseUnavailable("the database is away")

    monkeypatch.setattr(outbox.store, "census", refuse)

    assert metrics.values("outbox_enqueued_total", "channel") == {("chat",): 3}
    (up,) = metrics.families()["outbox_database_up"].samples
    assert up.value == 0
    assert "outbox_messages" not in metrics.families()


def test_every_metric_of_the_catalogue_is_told_and_no_other(outbox: Outbox, metrics: Metrics) -> None:
    told = {family.name: family.type for family in metrics.registry.collect()}

    assert told == {family.name.removesuffix("_total"): str(family.kind) for family in (*COUNTED, *ASKED)}


@pytest.mark.parametrize("family", [*COUNTED, *ASKED], ids=lambda family: family.name)
def test_no_label_can_hold_what_is_without_number_or_private(family: Any) -> None:
    assert set(family.labels) <= {"channel", "outcome", "status", "result", "service", "kind", "scope"}


def test_a_second_outbox_in_one_registry_is_refused(outbox: Outbox, open_outbox: OpenOutbox, metrics: Metrics) -> None:
    with pytest.raises(ConfigurationError, match="instrumented in this registry already"):
        instrument(open_outbox(), metrics.registry)


def test_the_backlog_can_be_left_to_another_registry(outbox: Outbox) -> None:
    counted, asked = CollectorRegistry(), CollectorRegistry()

    instrument(outbox, counted, backlog=False)
    asked.register(Backlog(outbox))

    assert {family.name for family in counted.collect()} & {family.name for family in asked.collect()} == set()
