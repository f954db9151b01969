"""Traces: a message is followed from the request that enqueued it through every attempt, and nobody notices."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from outbox import Attempt, Message, NewMessage, NotReady, Outbox, OutcomeUnknown, PermanentFailure, RetryLater, Suppressed
from outbox.channels.webhook import Webhook
from outbox.errors import InvalidMessage
from outbox.integrations.opentelemetry import instrument
from outbox.policy.retry import Backoff
from tests.integration.conftest import OpenOutbox
from tests.integration.loops.scene import AsyncChat, Chat, enqueue, put, raising
from tests.integration.monitoring.listening import Listener, listening

FOREIGN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Traces:
    """A provider of its own, and the spans that ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.application = self.provider.get_tracer("the application")

    def spans(self, name: str = "") -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name.startswith(name)]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.spans(name)
        return span


@pytest.fixture
def traces() -> Traces:
    return Traces()


@pytest.fixture
def followed(outbox: Outbox, traces: Traces) -> Outbox:
    instrument(outbox, traces.provider)
    return outbox


@pytest.fixture
def webhook() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


def parent_id(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def span_id(span: ReadableSpan) -> int:
    return span.get_span_context().span_id  # type: ignore[union-attr]


def traceparent(span: ReadableSpan) -> str:
    held = span.get_span_context()
    assert held is not None
    return f"00-{held.trace_id:032x}-{held.span_id:016x}-{held.trace_flags:02x}"


# From the request to the attempts.


@pytest.mark.parametrize("adapter", [Chat, AsyncChat])
def test_every_attempt_stands_in_the_trace_of_the_request(followed: Outbox, traces: Traces, adapter: type[Chat]) -> None:
    followed.register(adapter(behaviour={"moody": raising(RetryLater("busy"))}, backoff=Backoff((0.0,), jitter=0)))
    with traces.application.start_as_current_span("POST /orders"):
        enqueue(followed, NewMessage(channel="chat", target="moody", max_attempts=2))

    followed.drain()

    request, enqueued = traces.one("POST /orders"), traces.one("enqueue")
    first, second = traces.spans("deliver")
    assert parent_id(enqueued) == span_id(request)
    assert parent_id(first) == parent_id(second) == span_id(enqueued)
    assert [dict(span.attributes or {})["outbox.attempt"] for span in (first, second)] == [1, 2]


def test_the_spans_are_named_as_the_conventions_for_messaging_want_it(followed: Outbox, traces: Traces) -> None:
    followed.register(Chat())
    with traces.application.start_as_current_span("request"):
        (message_id,) = enqueue(followed, NewMessage(channel="chat", target="-100123", payload={"text": "a secret"}))
    followed.relay_once()

    enqueued, delivered = traces.one("enqueue chat"), traces.one("deliver chat")
    about = {"messaging.system": "outbox", "messaging.destination.name": "chat", "messaging.message.id": message_id}
    assert (enqueued.kind, delivered.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert enqueued.attributes == {**about, "messaging.operation.name": "enqueue", "messaging.operation.type": "create"}
    assert delivered.attributes == {
        **about, "messaging.operation.name": "deliver", "messaging.operation.type": "process",
        "outbox.attempt": 1, "outbox.outcome": "delivered",
    }  # fmt: skip
    assert "-100123" not in enqueued.to_json() + delivered.to_json()
    assert "a secret" not in enqueued.to_json() + delivered.to_json()


@pytest.mark.parametrize(
    ("raised", "outcome", "error_type"),
    [(RetryLater("busy"), "retry", "RetryLater"), (PermanentFailure("gone"), "rejected", "PermanentFailure"),
     (OutcomeUnknown("silence"), "unknown", "OutcomeUnknown"), (NotReady("no token"), "deferred", "NotReady"),
     (ConnectionRefusedError("refused"), "retry", "ConnectionRefusedError"), (Suppressed("unsubscribed"), "withheld", None)],
)  # fmt: skip
@pytest.mark.parametrize("adapter", [Chat, AsyncChat])
def test_an_attempt_tells_what_came_of_it(
    followed: Outbox, traces: Traces, adapter: type[Chat], raised: Exception, outcome: str, error_type: str | None
) -> None:
    followed.register(adapter(behaviour=raising(raised)))
    (message_id,) = enqueue(followed, NewMessage(channel="chat"))

    followed.relay_once()

    span = traces.one("deliver")
    assert span.attributes is not None
    assert (span.attributes["outbox.outcome"], span.attributes.get("error.type")) == (outcome, error_type)
    assert span.status.status_code is (StatusCode.UNSET if error_type is None else StatusCode.ERROR)
    assert str(raised) in (span.status.description or followed.get(message_id).terminal_reason or "")


def test_a_send_without_an_answer_in_time_is_told_as_what_it_is(followed: Outbox, traces: Traces) -> None:
    async def hang(_message: Message, _attempt: Attempt) -> None:
        import asyncio

        await asyncio.sleep(60)

    followed.register(AsyncChat(behaviour=hang, timeout=0.05))
    enqueue(followed, NewMessage(channel="chat"))

    followed.relay_once()

    attributes = traces.one("deliver").attributes or {}
    assert (attributes["outbox.outcome"], attributes["error.type"]) == ("unknown", "TimeoutError")


@pytest.mark.parametrize("adapter", [Chat, AsyncChat])
def test_what_an_adapter_does_belongs_to_its_attempt(followed: Outbox, traces: Traces, adapter: type[Chat]) -> None:
    def call(_message: Message, _attempt: Attempt) -> None:
        with traces.application.start_as_current_span("POST api.telegram.org"):
            pass

    followed.register(adapter(behaviour=call))
    enqueue(followed, NewMessage(channel="chat"))

    followed.relay_once()

    assert parent_id(traces.one("POST")) == span_id(traces.one("deliver"))


# The headers.


def test_a_request_that_nobody_traces_leaves_no_trace(followed: Outbox, traces: Traces) -> None:
    followed.register(Chat())
    (message_id,) = enqueue(followed, NewMessage(channel="chat", headers={"tenant": "a"}))

    followed.relay_once()

    assert followed.get(message_id).headers == {"tenant": "a"}
    assert traces.spans("enqueue") == []
    assert traces.one("deliver").parent is None


def test_an_outbox_that_nobody_instruments_adds_nothing_to_the_headers(outbox: Outbox, traces: Traces) -> None:
    with traces.application.start_as_current_span("request"):
        (message_id,) = enqueue(outbox, NewMessage(channel="chat"))

    assert outbox.get(message_id).headers == {}


def test_the_applications_own_headers_stay_and_those_of_its_own_trace_win(followed: Outbox, traces: Traces) -> None:
    followed.register(Chat())
    with traces.application.start_as_current_span("request") as request:
        plain, own = enqueue(
            followed,
            NewMessage(channel="chat", headers={"tenant": "a"}),
            NewMessage(channel="chat", headers={"traceparent": FOREIGN}),
        )
    followed.relay_once()

    assert followed.get(own).headers == {"traceparent": FOREIGN}
    assert followed.get(plain).headers == {"tenant": "a", "traceparent": traceparent(traces.one("enqueue"))}
    trace_ids = {(span.attributes or {})["messaging.message.id"]: span.context.trace_id for span in traces.spans("deliver")}
    assert trace_ids == {plain: request.get_span_context().trace_id, own: int(FOREIGN.split("-")[1], 16)}


def test_baggage_travels_along(followed: Outbox, traces: Traces) -> None:
    seen: list[object] = []
    followed.register(Chat(behaviour=lambda *_: seen.append(baggage.get_baggage("tenant"))))
    token = context.attach(baggage.set_baggage("tenant", "a"))
    try:
        with traces.application.start_as_current_span("request"):
            enqueue(followed, NewMessage(channel="chat"))
    finally:
        context.detach(token)

    followed.relay_once()

    assert seen == ["a"]


def test_messages_of_one_call_share_a_span_that_counts_them(followed: Outbox, traces: Traces) -> None:
    with traces.application.start_as_current_span("request"):
        ids = enqueue(followed, *(NewMessage(channel=name) for name in ("chat", "chat", "mail")))

    span = traces.one("enqueue")
    assert span.name == "enqueue"
    assert (span.attributes or {})["messaging.batch.message_count"] == 3
    assert {followed.get(message_id).headers["traceparent"] for message_id in ids} == {traceparent(span)}


@pytest.mark.parametrize("headers", [{"traceparent": "nonsense"}, {"traceparent": 7, "baggage": ["x"]}])
def test_headers_that_are_no_trace_context_begin_a_trace_of_their_own(
    followed: Outbox, traces: Traces, caplog: pytest.LogCaptureFixture, headers: dict[str, Any]
) -> None:
    followed.register(Chat())
    enqueue(followed, NewMessage(channel="chat", headers=headers))

    with caplog.at_level(logging.ERROR):
        followed.relay_once()

    assert traces.one("deliver").parent is None
    assert caplog.records == []


def test_corrupt_headers_set_their_message_aside_and_break_no_trace(followed: Outbox, traces: Traces) -> None:
    followed.register(Chat())
    (message_id,) = enqueue(followed, NewMessage(channel="chat"))
    put(followed, message_id, headers="{")

    followed.relay_once()

    assert followed.get(message_id).status == "failed_terminal"
    assert (traces.one("deliver").attributes or {})["error.type"] == "DecodeError"


@pytest.mark.parametrize("refused", [NewMessage(channel=""), NewMessage(channel="chat", headers=["no"]), "no message"])  # type: ignore[arg-type]
def test_a_message_that_is_refused_is_refused_in_the_same_way_and_its_span_says_so(
    followed: Outbox, traces: Traces, caplog: pytest.LogCaptureFixture, refused: Any
) -> None:
    with traces.application.start_as_current_span("request"), pytest.raises(InvalidMessage):
        enqueue(followed, refused)

    span = traces.one("enqueue")
    assert (span.attributes or {})["error.type"] == "InvalidMessage"
    assert span.events == ()
    assert "the tracer failed" not in caplog.text


def test_the_current_span_is_again_what_it_was(followed: Outbox, traces: Traces) -> None:
    with traces.application.start_as_current_span("request") as request:
        enqueue(followed, NewMessage(channel="chat"))

        assert trace.get_current_span() is request


# Over HTTP.


def test_a_webhook_carries_the_trace_context_of_its_attempt(followed: Outbox, traces: Traces, webhook: Listener) -> None:
    followed.register(Webhook(allow_http=True, allow_networks=["127.0.0.0/8"]))
    with traces.application.start_as_current_span("request"):
        enqueue(followed, NewMessage(channel="webhook", target=webhook.url, payload={}))

    followed.relay_once()

    (headers,) = webhook.requests
    assert headers["traceparent"] == traceparent(traces.one("deliver"))


def test_a_webhook_carries_the_trace_context_of_the_enqueue_where_no_worker_traces(
    followed: Outbox, open_outbox: OpenOutbox, traces: Traces, webhook: Listener
) -> None:
    worker = open_outbox(channels=[Webhook(allow_http=True, allow_networks=["127.0.0.0/8"])])
    with traces.application.start_as_current_span("request"):
        enqueue(followed, NewMessage(channel="webhook", target=webhook.url, payload={}))

    worker.relay_once()

    (headers,) = webhook.requests
    assert headers["traceparent"] == traceparent(traces.one("enqueue"))
