"""The ``celery`` channel: publishes the application's tasks. Delivered means that the broker has accepted the task."""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from amqp.exceptions import ChannelError, IrrecoverableChannelError, MessageNacked
from celery import Celery
from celery.app.utils import find_app
from celery.exceptions import QueueNotFound
from kombu.exceptions import SerializationError, SerializerNotInstalled

from outbox.channels.base import Channel
from outbox.errors import (
    BrokerUnavailable,
    ConfigurationError,
    InvalidMessage,
    NotReady,
    OutcomeUnknown,
    PermanentFailure,
    RetryLater,
)
from outbox.integrations.celery.canvas import announce_chords, unfold
from outbox.integrations.celery.publishing import Publisher
from outbox.message import Attempt, Message, NewMessage, Receipt
from outbox.policy.destination import Breaker
from outbox.tasks import calls
from outbox.tasks.calls import NewCall, TaskCall, Unfolded
from outbox.tasks.options import CHORD_SIZES, NOT_JSON

_NEVER = (SerializationError, SerializerNotInstalled, QueueNotFound)
"""What publishing again would only repeat."""


class CeleryTasks(Channel):
    """Publishes each message as the task that it is; the task's id is the same at every attempt.

    ``app`` is the application that publishes, or where it is found, such as ``"shop.celery:app"``, imported when first needed.
    ``install`` registers a channel ``celery`` with its own application where there is none.
    """

    name = calls.CHANNEL
    concurrency = 10
    target_required = False
    target_breaker = None
    channel_breaker = Breaker(failures=20)

    def __init__(self, name: str | None = None, *, app: Celery | str | None = None, **policy: Any) -> None:
        super().__init__(name, **policy)
        self._app = app
        self._publisher: Publisher | None = None
        self._lock = threading.Lock()

    def bind(self, app: Celery) -> None:
        """Publish through ``app``, unless an application was given before."""
        self._app = self._app or app

    def check_message(self, message: NewMessage) -> None:
        """Refuse a payload that is no call of a task, or holds what would be lost on the way to the worker."""
        super().check_message(message)
        try:
            calls.read(message.payload)
        except InvalidMessage as refused:
            raise InvalidMessage(f"channel {self.name!r}: {refused}") from None

    def inherited(self, task: str) -> Mapping[str, Any]:
        """The task's own expiry, and what a task that runs in a worker passes on to those that it calls."""
        if self._app is None:
            return {}
        app = self._application()
        own = app.tasks.get(task)
        options: dict[str, Any] = {} if own is None or own.expires is None else {"expires": own.expires}
        running: Any = app.current_worker_task
        if running:
            request = running.request
            options |= {"root_id": request.root_id or request.id, "parent_id": request.id}
            if app.conf.task_inherit_parent_priority:
                options["priority"] = (request.delivery_info or {}).get("priority")
        return options

    def unfolded(self, canvas: Any, call: NewCall) -> Unfolded:
        """The calls that start a canvas."""
        return unfold(self._application(), canvas, call)

    def send_final(self, message: Message, attempt: Attempt) -> Receipt:
        """Publish the task."""
        try:
            app = self._application()
        except ConfigurationError as error:
            raise NotReady(str(error)) from error
        try:
            call = calls.read(message.payload)
        except InvalidMessage as refused:
            raise PermanentFailure(str(refused)) from None
        if app.conf.task_always_eager:
            _run_eagerly(app, call, message)
        else:
            self._publish(app, call, message)
        return Receipt(call.id or message.key)

    async def aclose(self) -> None:
        if self._publisher is not None:
            self._publisher.close()

    def _application(self) -> Celery:
        """Raises :class:`~outbox.errors.ConfigurationError` where there is none."""
        if self._app is None:
            raise ConfigurationError(f"channel {self.name!r} has no Celery application: call install(app, outbox), or set app")
        if isinstance(self._app, str):
            self._app = _found(self._app)
        return self._app

    def _publisher_over(self, app: Celery) -> Publisher:
        """One for all of the process's sends, which begin in several threads."""
        with self._lock:
            if self._publisher is None:
                self._publisher = Publisher(app, confirmed=True)
            return self._publisher

    def _publish(self, app: Celery, call: TaskCall, message: Message) -> None:
        if sizes := call.options.get(CHORD_SIZES):
            try:
                announce_chords(app, sizes)
            except Exception as error:  # every backend has its own
                raise RetryLater(f"the result backend, which the chord needs, failed: {error}") from error
        publisher = self._publisher_over(app)
        begun = False
        try:
            with publisher.connected() as producer:
                begun = True
                _hand_over(publisher, lambda: _apply(app, call, message, producer=producer, retry=False))
        except BrokerUnavailable as error:
            if begun:
                raise OutcomeUnknown(f"the broker gave no answer: {error}") from None
            raise NotReady(f"the broker is away: {error}") from None


def _found(name: str) -> Celery:
    try:
        app = find_app(name)
    except Exception as error:  # whatever the application's modules raise
        raise ConfigurationError(f"the Celery application {name} cannot be imported: {error}") from error
    if not isinstance(app, Celery):
        raise ConfigurationError(f"{name} is no Celery application")
    return app


def _hand_over(publisher: Publisher, publish: Callable[[], None]) -> None:
    """Publish, telling a refusal from a broker of which nobody knows what it did."""
    try:
        publish()
    except _NEVER as error:
        raise PermanentFailure(f"{type(error).__name__}: {error}") from error
    except (ChannelError, MessageNacked) as error:
        publisher.close()  # the broker has closed the channel
        refusal = PermanentFailure if isinstance(error, IrrecoverableChannelError) else RetryLater
        raise refusal(f"the broker refused the task: {type(error).__name__}: {error}") from error


def _apply(app: Celery, call: TaskCall, message: Message, **options: Any) -> None:
    """``apply_async`` of the application's own task, with its hooks and defaults; by name alone where another one has it."""
    own = app.tasks.get(call.name)
    options |= {option: value for option, value in call.options.items() if option != CHORD_SIZES}
    options["task_id"] = call.id or message.key
    if (expires := _expires(call, message, own)) is not None:
        options["expires"] = expires
    if "serializer" not in options and (getattr(own, "serializer", None) or app.conf.task_serializer) in NOT_JSON:
        options["serializer"] = "json"
    if own is None:
        app.send_task(call.name, tuple(call.args), dict(call.kwargs), **options)
    else:
        own.apply_async(tuple(call.args), dict(call.kwargs), **options)


def _expires(call: TaskCall, message: Message, own: Any) -> datetime | None:
    """The moment at which the task expires: the message's own, else what the task's class says, counted from the enqueue."""
    if call.expires:
        return None if message.expires_at is None else _moment(message.expires_at)
    if isinstance(default := getattr(own, "expires", None), int | float):
        return _moment(message.queued_at) + timedelta(seconds=default)
    return None


def _moment(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)


def _run_eagerly(app: Celery, call: TaskCall, message: Message) -> None:
    """Without a broker the task runs here and now, once, whatever comes of it."""
    if call.name not in app.tasks:
        raise PermanentFailure(f"task_always_eager is set, and no task {call.name!r} is registered here")
    if "chain" in call.options or "chord" in call.options:
        raise PermanentFailure(
            "task_always_eager is set, and Celery would run the first task of the canvas and forget the rest"
        )
    try:
        _apply(app, call, message)
    except Exception as error:  # with task_eager_propagates; to try again would be to run it again
        raise PermanentFailure(f"the task ran eagerly and raised {type(error).__name__}: {error}") from error
