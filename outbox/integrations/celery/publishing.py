"""Publishing that neither hangs nor retries for long: its own connection, short socket time-outs, thrown away on failure."""

import math
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celery import Celery
from kombu import Connection, Producer
from kombu.exceptions import KombuError

from outbox.errors import BrokerUnavailable
from outbox.integrations.celery.forking import after_fork

CONNECT_TIMEOUT_S = 2.0
SOCKET_TIMEOUT_S = 2.0
_CLOSE_TIMEOUT_S = 0.5
_STALE_AFTER_S = 30.0
"""An idle connection may be dead without a sign: nobody sends its heartbeats, and firewalls forget it."""


@dataclass(frozen=True, slots=True)
class Publication:
    """One task to publish."""

    task: str
    kwargs: dict[str, Any]
    options: dict[str, Any]


class Publisher:
    """Publishes over one connection a process, which its threads use in turn.

    Raises :class:`~outbox.errors.BrokerUnavailable`, and throws the connection away that did not serve.
    """

    _producer: Producer | None

    def __init__(self, app: Celery, *, confirmed: bool = False) -> None:
        """``confirmed`` waits for RabbitMQ to say that it has the message."""
        self._app = app
        self._confirmed = confirmed
        self._begin_anew()
        after_fork(self._begin_anew)

    def publish(self, publications: Iterable[Publication]) -> None:
        """Publish each, without Celery's own retries; after a failure, the one under way may have been accepted or not.

        Where tasks run eagerly there is no broker, and each is run here and now.
        """
        if self._app.conf.task_always_eager:
            for publication in publications:
                self._apply(publication)
            return
        with self.connected() as producer:
            for publication in publications:
                self._apply(publication, producer=producer, retry=False)

    def waiting(self, queue: str) -> int:
        """How many messages of a queue no worker has received yet."""
        with self.connected() as producer:
            entity: Any = self._app.amqp.queues[queue]
            return int(entity.bind(producer.channel).queue_declare().message_count)

    def close(self) -> None:
        """Throw the connection away."""
        producer, self._producer = self._producer, None
        if producer is not None and producer.connection is not None:
            producer.connection.collect(socket_timeout=_CLOSE_TIMEOUT_S)

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._producer = None
        self._used_at = 0.0
        self._failed_at, self._failure = -math.inf, ""

    def _apply(self, publication: Publication, **options: Any) -> None:
        self._app.tasks[publication.task].apply_async(kwargs=publication.kwargs, **publication.options, **options)

    @contextmanager
    def connected(self) -> Iterator[Producer]:
        """The producer, for this thread alone while the block runs. Broker failures become ``BrokerUnavailable``, in it too."""
        asked_at = time.monotonic()
        with self._lock:
            try:
                if time.monotonic() - self._used_at > _STALE_AFTER_S:
                    self.close()
                if self._producer is None:
                    self._producer = self._connect(asked_at)
                yield self._producer
                self._used_at = time.monotonic()
            except self._failures() as error:
                self.close()
                raise BrokerUnavailable(_told(error)) from error

    def _connect(self, asked_at: float) -> Producer:
        """Who waited while this failed for another shares the failure: in turn, the last would outwait its own timeout."""
        if asked_at <= self._failed_at:
            raise BrokerUnavailable(self._failure)
        connection = impatient(self._app, confirmed=self._confirmed)
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        except self._failures() as error:
            self._failed_at, self._failure = time.monotonic(), _told(error)
            raise
        return self._app.amqp.Producer(connection)

    def _failures(self) -> tuple[type[BaseException], ...]:
        transport = self._app.connection_for_write().transport
        return (KombuError, OSError, *transport.connection_errors, *transport.channel_errors)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def impatient(app: Celery, *, confirmed: bool = False) -> Connection:
    """A connection to the application's broker that gives up soon: a frozen Redis without a time-out hangs for ever."""
    limits: dict[str, object]
    own = dict(app.conf.broker_transport_options or {})
    connection = app.connection_for_write()
    if connection.transport.driver_type == "redis":
        limits = {"socket_timeout": SOCKET_TIMEOUT_S, "socket_connect_timeout": CONNECT_TIMEOUT_S, "retry_on_timeout": False}
    elif connection.transport.driver_type == "amqp":
        limits = {"read_timeout": SOCKET_TIMEOUT_S, "write_timeout": SOCKET_TIMEOUT_S}
        if confirmed:
            limits["confirm_publish"] = True
    else:
        limits = {}
    return app.connection_for_write(connect_timeout=CONNECT_TIMEOUT_S, transport_options={**own, **limits})
