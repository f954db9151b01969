"""OpenTelemetry: ``instrument(outbox)``, and every attempt stands in the trace of the request that enqueued its message.

Names and attributes are those of the semantic conventions for messaging (https://opentelemetry.io/docs/specs/semconv/messaging/);
``outbox.attempt`` and ``outbox.outcome`` are our own. No span holds a payload or a target.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from outbox.codec import DecodeError
from outbox.extras import extra
from outbox.message import Message, NewMessage
from outbox.outbox import Outbox
from outbox.outcome import Deferred, Delivered, Outcome, Rejected, Retry, Unknown, Withheld
from outbox.tracing import Enqueuing, Sending

with extra("opentelemetry", "the integration with OpenTelemetry"):
    from opentelemetry import context, propagate, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, TracerProvider
    from opentelemetry.util.types import AttributeValue


def instrument(outbox: Outbox, tracer_provider: TracerProvider | None = None) -> None:
    """Follow the messages of ``outbox``: in the processes that enqueue, and in those that deliver.

    :param tracer_provider: makes the spans; default: whichever the process sets up.
    """
    outbox.telemetry.tracing.follow_with(_Follower(trace.get_tracer("celery-outbox", tracer_provider=tracer_provider)))


class _Follower:
    """The outbox's :class:`~outbox.tracing.Tracer`."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def enqueuing(self, enqueuing: Enqueuing) -> Iterator[None]:
        """One span for all messages of a call, whose context they carry; none where nobody traces the request itself."""
        if not trace.get_current_span().get_span_context().is_valid:
            yield
            return
        messages: Sequence[Any] = enqueuing.messages  # whatever was handed over; what is no message will be refused
        channels = {message.channel for message in messages if isinstance(message, NewMessage)}
        attributes: dict[str, AttributeValue] = {} if len(messages) == 1 else {"messaging.batch.message_count": len(messages)}
        with self._span("enqueue", "create", SpanKind.PRODUCER, channels, attributes) as span:
            enqueuing.messages = _carrying(_present_context(), messages)
            try:
                yield
            except Exception as error:
                _fail(span, type(error).__name__)
                raise
            if len(enqueuing.queued) == 1:
                span.set_attribute("messaging.message.id", enqueuing.queued[0].id)

    @contextmanager
    def sending(self, sending: Sending) -> Iterator[None]:
        """A span for each attempt, child of the enqueue's, however much later; without one, a trace of its own."""
        message, attempt = sending.message, sending.attempt
        attributes: dict[str, AttributeValue] = {"messaging.message.id": message.id, "outbox.attempt": attempt.number}
        origin = context.attach(propagate.extract(_texts(message), Context()))
        try:
            with self._span("deliver", "process", SpanKind.CONSUMER, {message.channel}, attributes) as span:
                sending.attempt = replace(attempt, trace_context=_present_context())
                yield
                if sending.outcome is not None:
                    _tell(span, sending.outcome, sending.error_type)
        finally:
            context.detach(origin)

    def _span(
        self, operation: str, kind_of_operation: str, kind: SpanKind, channels: set[str], attributes: dict[str, AttributeValue]
    ) -> AbstractContextManager[Span]:  # fmt: skip
        destination = channels.pop() if len(channels) == 1 else None
        told: dict[str, AttributeValue] = {
            "messaging.system": "outbox",
            "messaging.operation.name": operation,
            "messaging.operation.type": kind_of_operation,
            **({"messaging.destination.name": destination} if destination else {}),
            **attributes,
        }
        return self._tracer.start_as_current_span(
            f"{operation} {destination}" if destination else operation, kind=kind, attributes=told,
            record_exception=False, set_status_on_exception=False,  # the texts of refusals quote what was refused
        )  # fmt: skip


def _carrying(trace_context: dict[str, str], messages: Sequence[Any]) -> Sequence[Any]:
    """The messages with the trace context in their headers. What stands there already is the application's own will."""
    fields = propagate.get_global_textmap().fields

    def carries(message: Any) -> Any:
        own: Any = message.headers if isinstance(message, NewMessage) else "none"
        if not isinstance(own, dict | None) or fields & (own or {}).keys():
            return message
        return replace(message, headers={**(own or {}), **trace_context})

    return [carries(message) for message in messages]


def _present_context() -> dict[str, str]:
    """The current span's context as the headers that the process's propagators write, W3C's unless it was told otherwise."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


def _texts(message: Message) -> dict[str, str]:
    try:
        return {name: value for name, value in message.headers.items() if isinstance(value, str)}
    except DecodeError:  # the send will set the message aside for it
        return {}


def _tell(span: Span, outcome: Outcome, error_type: str | None) -> None:
    span.set_attribute("outbox.outcome", type(outcome).__name__.lower())
    match outcome:
        case Retry(error) | Rejected(error) | Unknown(error) | Deferred(error):
            _fail(span, error_type or type(outcome).__name__, error)
        case Delivered() | Withheld():
            pass


def _fail(span: Span, error_type: str, error: str | None = None) -> None:
    span.set_attribute("error.type", error_type)
    span.set_status(StatusCode.ERROR, error)
