"""The event seam: every listener hears every event, and nothing that a listener does comes back to the engine."""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, fields, replace

import pytest

from outbox import telemetry
from outbox.telemetry import (
    AttemptFinished,
    BrokerFailed,
    Enqueued,
    Event,
    LeaseLost,
    Maintained,
    Nudged,
    NudgeFailed,
    Pulled,
    RelayIdled,
    RelayPassed,
    SettleDelayed,
    TakeRefused,
    Telemetry,
    log_event,
)

FINISHED = AttemptFinished(
    message_id="0198c0de", channel="webhook", attempt=2, lease=3, outcome="retry", status="failed_retryable", duration_ms=140,
    waited_ms=12, next_due_ms=25_000, error="HTTP 503",
)  # fmt: skip
EXAMPLES: dict[type[Event], Event] = {
    Enqueued: Enqueued("webhook", 3),
    AttemptFinished: FINISHED,
    LeaseLost: LeaseLost("0198c0de", "webhook", 3, "delivered"),
    TakeRefused: TakeRefused("webhook", 4),
    SettleDelayed: SettleDelayed("webhook", 2, "database is locked"),
    RelayPassed: RelayPassed(10, 1, 2, 15),
    Pulled: Pulled("webhook", 3, 1, 4),
    RelayIdled: RelayIdled(),
    BrokerFailed: BrokerFailed(10, "connection refused"),
    Nudged: Nudged(),
    NudgeFailed: NudgeFailed("connection refused"),
    Maintained: Maintained("expire", 7),
}
EVENTS = [kind for kind in vars(telemetry).values() if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG, logger="outbox"):
        yield caplog


def test_every_listener_hears_every_event_in_order() -> None:
    first: list[Event] = []
    second: list[Event] = []
    seam = Telemetry([first.append])
    seam.subscribe(second.append)

    for event in EXAMPLES.values():
        seam.emit(event)

    assert first == second == [*EXAMPLES.values()]


@pytest.mark.proves("T3")
def test_t3_a_listener_that_fails_breaks_neither_the_engine_nor_the_listeners_behind_it(log: pytest.LogCaptureFixture) -> None:
    heard: list[Event] = []

    def fail(_event: Event) -> None:
        raise RuntimeError("the metrics server is away")

    Telemetry([fail, heard.append]).emit(FINISHED)

    assert heard == [FINISHED]
    (record,) = log.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "a telemetry listener failed on AttemptFinished")
    assert "the metrics server is away" in str(record.exc_info)


def test_what_wants_to_end_the_process_is_no_failure_of_a_listener() -> None:
    def interrupt(_event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Telemetry([interrupt]).emit(FINISHED)


def test_without_listeners_nothing_happens(log: pytest.LogCaptureFixture) -> None:
    Telemetry([]).emit(FINISHED)

    assert log.records == []


def test_events_are_logged_unless_somebody_says_otherwise(log: pytest.LogCaptureFixture) -> None:
    Telemetry().emit(FINISHED)

    assert [record.name for record in log.records] == ["outbox"]


def test_an_event_is_one_line_for_people_and_its_fields_for_programs(log: pytest.LogCaptureFixture) -> None:
    log_event(FINISHED)

    (record,) = log.records
    assert record.getMessage() == (
        "AttemptFinished message_id=0198c0de channel=webhook attempt=2 lease=3 outcome=retry status=failed_retryable"
        " duration_ms=140 waited_ms=12 next_due_ms=25000 error=HTTP 503"
    )
    assert record.__dict__["outbox"] == {
        "event": "AttemptFinished", "message_id": "0198c0de", "channel": "webhook", "attempt": 2, "lease": 3,
        "outcome": "retry", "status": "failed_retryable", "duration_ms": 140, "waited_ms": 12, "next_due_ms": 25_000,
        "error": "HTTP 503",
    }  # fmt: skip


def test_an_error_from_outside_cannot_forge_a_line_of_the_log(log: pytest.LogCaptureFixture) -> None:
    forged = "HTTP 500\nAttemptFinished outcome=delivered \x1b[2J"
    log_event(replace(FINISHED, error=forged))

    (record,) = log.records
    assert record.getMessage().isprintable()
    assert record.__dict__["outbox"]["error"] == forged


def test_what_is_not_known_is_not_told(log: pytest.LogCaptureFixture) -> None:
    log_event(replace(FINISHED, next_due_ms=None, error=None))

    (record,) = log.records
    assert "None" not in record.getMessage()
    assert {"next_due_ms", "error"} & record.__dict__["outbox"].keys() == set()


@pytest.mark.parametrize(
    ("kind", "level"),
    [(AttemptFinished, logging.INFO), (RelayPassed, logging.INFO), (Maintained, logging.INFO), (TakeRefused, logging.DEBUG),
     (LeaseLost, logging.WARNING), (BrokerFailed, logging.WARNING), (NudgeFailed, logging.WARNING),
     (SettleDelayed, logging.ERROR), (Enqueued, logging.DEBUG), (Pulled, logging.INFO), (Nudged, logging.DEBUG)],
)  # fmt: skip
def test_how_loud_an_event_is_says_whether_anybody_must_act(
    log: pytest.LogCaptureFixture, kind: type[Event], level: int
) -> None:
    log_event(EXAMPLES[kind])

    assert [record.levelno for record in log.records] == [level]


@pytest.mark.proves("T15")
def test_a_relay_that_finds_nothing_logs_nothing_however_much_is_to_be_logged(log: pytest.LogCaptureFixture) -> None:
    log_event(RelayIdled())

    assert log.records == []


def test_no_line_is_put_together_for_a_log_that_nobody_reads(caplog: pytest.LogCaptureFixture) -> None:
    class Unread:
        def __str__(self) -> str:
            raise AssertionError("somebody put a line together")

    with caplog.at_level(logging.ERROR, logger="outbox"):
        log_event(replace(FINISHED, error=Unread()))


@pytest.mark.parametrize("kind", EVENTS)
def test_no_event_has_room_for_a_payload_a_target_or_a_secret(kind: type[Event]) -> None:
    names = {field.name for field in fields(kind)}

    assert names & {"payload", "headers", "target", "account_id", "url", "token", "secret", "receipt"} == set()


@pytest.mark.parametrize("event", EXAMPLES.values(), ids=lambda event: type(event).__name__)
def test_every_event_can_become_json(event: Event) -> None:
    assert json.loads(json.dumps(asdict(event))) == asdict(event)
