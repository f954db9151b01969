"""The façade that an application holds."""

import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ref

from sqlalchemy import Engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from outbox import checkpoints, dbapi, replies, transactions
from outbox.batching import Batch
from outbox.channels.base import Channel, FunctionChannel
from outbox.channels.registry import ChannelRegistry
from outbox.clock import Clock
from outbox.delivery import Delivery
from outbox.errors import ConfigurationError, MessageNotFound, OperationRefused
from outbox.lifecycle import Status
from outbox.maintenance import Maintenance
from outbox.message import Attempt, AttemptRecord, Message, NewMessage, Queued
from outbox.policy.retention import Retention
from outbox.policy.turns import TurnStatus, turn_status
from outbox.preparing import DEFAULT_PAYLOAD_LIMIT, Preparer
from outbox.relay import Relay, RelayReport
from outbox.store.records import ChannelStats, GateKind, MessageFilter, OperatorResult
from outbox.store.schema import DEFAULT_TABLE
from outbox.store.sqlstore import open_store
from outbox.tasks import calls
from outbox.tasks.calls import NewCall, QueuedTask
from outbox.telemetry import Enqueued, Telemetry
from outbox.tracing import Enqueuing

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

_Function = TypeVar("_Function", bound=Callable[[Message, Attempt], Any])

BULK_LIMIT = 10_000
"""Messages that one operator action changes at the most; repeat it for more."""


class Outbox:
    """One outbox: the table in the application's database, and the channels through which its messages go out.

    :param url: the database, ``sqlite:///app.db`` or ``postgresql+psycopg://…``; or give ``engine``.
    :param channels: the adapters. Leave it empty in an application that only enqueues; the workers know them.
    :param table_name: prefix of the tables.
    :param payload_limit: bytes that the encoded payload and headers of one message may take.
    :param retention: how long terminal rows are kept.
    :param log_successes: record successful attempts in the attempt log too, not only failed and unknown ones.
    :param clock: for tests; the default is the database's clock on PostgreSQL and the host's on SQLite.
    """

    def __init__(
        self,
        url: str | URL | None = None,
        *,
        engine: Engine | None = None,
        channels: Iterable[Channel] = (),
        table_name: str = DEFAULT_TABLE,
        payload_limit: int = DEFAULT_PAYLOAD_LIMIT,
        retention: Retention | None = None,
        log_successes: bool = False,
        clock: Clock | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.application_engine = engine
        """The engine that the application gave, whose transactions an enqueue joins; the store may use one of its own."""
        self.store = open_store(url, engine=engine, table_name=table_name, clock=clock, log_successes=log_successes)
        self.channels = ChannelRegistry()
        for channel in channels:
            self.channels.register(channel)
        self.telemetry = telemetry or Telemetry()
        self._start_token = secrets.token_hex(4)
        self.on_commit: transactions.OnCommit | None = None
        """Called after each commit that holds new messages, once for each of their channels: the nudge. It must not block."""
        self._clock = clock
        self.delivery = Delivery(self.store, self.telemetry, self.owner, clock)
        self.maintenance = Maintenance(self.store, self.channels, self.telemetry, retention or Retention())
        _forget_after_fork(ref(self))
        self.preparer = Preparer(self.channels, payload_limit)
        self._inline = Relay(self.store, self.channels, _InlineDispatcher(self), self.telemetry, self.owner)

    def upgrade_schema(self) -> None:
        """Create the tables, or bring them to this release's schema. Safe to call from any number of processes."""
        from outbox.store import migrating  # Alembic, which an application that only enqueues need not import

        migrating.upgrade(self.store)

    def check_schema(self) -> None:
        """Raise :class:`~outbox.errors.SchemaError` unless the database has this release's schema."""
        from outbox.store import migrating

        migrating.state(self.store).require_current(self.store.tables.messages.name)

    def register(self, channel: Channel) -> None:
        """Add a channel. Raises :class:`~outbox.errors.ConfigurationError` when it could not work."""
        self.channels.register(channel)

    def channel(self, name: str, **policy: Any) -> Callable[[_Function], _Function]:
        """Register the decorated function as a channel; keyword arguments are its policy (``timeout=`` and the like)."""

        def register(function: _Function) -> _Function:
            self.register(FunctionChannel(name, function, **policy))
            return function

        return register

    def enqueue(
        self,
        transaction: Any,
        channel: str,
        *,
        target: str = "",
        payload: Any = None,
        account_id: str = "",
        turn_id: str | None = None,
        dispatch_kind: str | None = "final",
        idempotency_key: str | None = None,
        ordering_key: str | None = None,
        priority: int = 0,
        delay: float | timedelta | None = None,
        due_at: datetime | None = None,
        expires_in: float | timedelta | None = None,
        max_attempts: int | None = None,
        headers: dict[str, Any] | None = None,
    ) -> Queued:
        """Write a message in the caller's open transaction: one statement, no network.

        :param transaction: holds the open transaction: a SQLAlchemy ``Session``, ``scoped_session`` or ``Connection``, or a
            ``sqlite3`` or ``psycopg`` connection (whose commit wakes nobody: the relay's next tick finds the message).
        :param target: where the channel sends it: a URL, a chat id, an address.
        :param payload: anything JSON can hold, and datetime, date, time, timedelta, UUID, Decimal, bytes and tuple.
        :param turn_id: groups messages, for :meth:`turn_status`.
        :param dispatch_kind: only ``final`` messages are sent again after a failure; ``block`` and ``tool`` ones are not.
        :param idempotency_key: unique per channel while the row is kept; enqueueing it again returns the first message.
        :param ordering_key: messages of one channel and key are sent in order, one at a time.
        :param priority: from -100 to 100; higher goes first.
        :param delay: seconds (or a timedelta) until it is due; or ``due_at``, a datetime with a time zone.
        :param expires_in: seconds after the first due time at which it is no longer worth sending; default: the channel's TTL.
        :param headers: the application's own, handed to the adapter.
        :raises outbox.errors.UnknownChannel: the channels are known here, and this is none of them.
        :raises outbox.errors.InvalidMessage: the message cannot be stored or sent as it is.
        :raises outbox.errors.TransactionError: the transaction is closed, read-only or in autocommit mode.
        :raises outbox.errors.SchemaError: the tables are not there.
        """
        message = NewMessage(
            channel=channel, target=target, payload=payload, account_id=account_id, turn_id=turn_id,
            dispatch_kind=dispatch_kind, idempotency_key=idempotency_key, ordering_key=ordering_key, priority=priority,
            delay=delay, due_at=due_at, expires_in=expires_in, max_attempts=max_attempts, headers=headers,
        )  # fmt: skip
        return self.enqueue_many(transaction, [message])[0]

    def enqueue_many(self, transaction: Any, messages: Sequence[NewMessage]) -> list[Queued]:
        """Write messages in the caller's open transaction: all of them, or none where one is refused. See :meth:`enqueue`."""
        enqueuing = Enqueuing(messages)
        with self.telemetry.tracing.enqueuing(enqueuing):
            rows = self.preparer.rows(enqueuing.messages)
            try:
                queued = self.store.add(transactions.connection_of(transaction), rows)
            except DBAPIError as error:
                raise dbapi.meaning_of(error, self.store.tables) from error
            enqueuing.queued = queued
        checkpoints.reach("enqueue", "inserted")
        created = [row for row, one in zip(rows, queued, strict=True) if one.created]
        for channel, count in Counter(row.channel for row in created).items():
            self.telemetry.emit(Enqueued(channel, count))
        if self.on_commit is not None:
            for channel in {row.channel for row in created if not row.delay_ms}:
                transactions.after_commit(transaction, transactions.WakeUp(self.on_commit, channel))
        return queued

    def enqueue_reply(
        self,
        transaction: Any,
        channel: str,
        *,
        target: str,
        parts: Sequence[str | Mapping[str, Any]],
        reply_to: str | int | None = None,
        thread_id: str | int | None = None,
        **options: Any,
    ) -> list[Queued]:
        """Write a reply of several parts as messages of one turn, sent in order; see :mod:`outbox.replies`.

        :param parts: texts, or dictionaries of ``text``, ``media``, ``reply_to``, ``thread_id``, ``silent`` and ``extra``.
        :param reply_to: what the reply answers: used by the first part delivered that names nothing else itself.
        :param thread_id: where the parts go that name no thread themselves.
        :param options: as for :meth:`enqueue`; an ``idempotency_key`` becomes ``key#1``, ``key#2`` and so on.
        """
        adapter = self.channels.get(channel) if self.channels.complete else self.channels.find(channel)
        common = NewMessage(channel=channel, target=target, **options)
        return self.enqueue_many(transaction, replies.messages(adapter, common, parts, reply_to=reply_to, thread_id=thread_id))

    def send_task(
        self, transaction: Any, name: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, *,
        channel: str = calls.CHANNEL, ordering_key: str | None = None, turn_id: str | None = None,
        max_attempts: int | None = None, **options: Any,
    ) -> QueuedTask:  # fmt: skip
        """Call a Celery task by a message in the caller's open transaction.

        :param options: those of Celery's ``apply_async``. ``task_id`` is the idempotency key, ``countdown`` or ``eta`` the due
            time; ``expires`` counts from this call, also for a task that is published late.
        :raises outbox.errors.InvalidMessage: an option or an argument would not reach the worker as it is.
        """
        row = {"ordering_key": ordering_key, "turn_id": turn_id, "max_attempts": max_attempts}
        queued = self._enqueue_calls(transaction, channel, [NewCall(name, args, kwargs, options)], row)[0]
        return QueuedTask(options.get("task_id") or queued.id, [queued.id], queued.created)

    def send_canvas(
        self, transaction: Any, canvas: Any, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, *,
        channel: str = calls.CHANNEL, turn_id: str | None = None, max_attempts: int | None = None, **options: Any,
    ) -> QueuedTask:  # fmt: skip
        """Apply a Celery signature, chain, group or chord by messages in the caller's open transaction.

        Each task that starts at once is a message; all of them are one turn, named by the canvas's id.

        :param options: those of Celery's ``apply_async``, which Celery gives to the parts as ever.
        :raises outbox.errors.InvalidMessage: the canvas cannot be kept whole.
        :raises outbox.errors.ConfigurationError: the channel knows no Celery application; ``install`` was not called here.
        """
        adapter: object = self.channels.find(channel)
        if not isinstance(adapter, calls.KnowsTasks):
            raise ConfigurationError(f"channel {channel!r} knows no Celery application here: call install(app, outbox)")
        unfolded = adapter.unfolded(canvas, NewCall("", args, kwargs, options))
        row = {"turn_id": turn_id or unfolded.id, "max_attempts": max_attempts}
        queued = self._enqueue_calls(transaction, channel, unfolded.calls, row)
        return QueuedTask(unfolded.id, [each.id for each in queued], all(each.created for each in queued))

    def _enqueue_calls(self, transaction: Any, channel: str, new: Sequence[NewCall], row: dict[str, Any]) -> Sequence[Queued]:
        adapter: object = self.channels.find(channel)
        if isinstance(adapter, calls.KnowsTasks):
            new = [call.inheriting(adapter.inherited(call.name)) for call in new]
        return self.enqueue_many(transaction, [calls.message(channel, call, **row) for call in new])

    async def aenqueue(self, transaction: "AsyncSession | AsyncConnection", channel: str, **options: Any) -> Queued:
        """:meth:`enqueue` for an ``AsyncSession``, ``async_scoped_session`` or ``AsyncConnection``."""

        def join(handle: Any) -> Queued:
            return self.enqueue(handle, channel, **options)

        queued: Queued = await transactions.async_handle(transaction).run_sync(join)
        return queued

    def get(self, message_id: str) -> Message:
        """The message with that id. Raises :class:`~outbox.errors.MessageNotFound`."""
        message = self.store.find(message_id)
        if message is None:
            raise MessageNotFound(f"no message {message_id!r} is kept")
        return message

    def list(
        self, *, status: str | None = None, channel: str | None = None, target: str | None = None, turn_id: str | None = None,
        before_seq: int | None = None, limit: int = 100,
    ) -> Sequence[Message]:  # fmt: skip
        """Messages that match, newest first; ``before_seq`` continues a longer listing."""
        wanted = MessageFilter(
            status=None if status is None else Status(status),
            channel=channel,
            target=target,
            turn_id=turn_id,
            before_seq=before_seq,
        )
        return self.store.list_messages(wanted, limit)

    def attempts(self, message_id: str) -> Sequence[AttemptRecord]:
        """The recorded attempts of a message: failed and unknown ones, and with ``log_successes`` all."""
        return self.store.attempts(message_id)

    def stats(self) -> Sequence[ChannelStats]:
        """Counts by channel and status, and the age of each channel's oldest due message."""
        return self.store.stats()

    def turn_status(self, turn_id: str) -> TurnStatus:
        """What became of a turn, judged by its final messages."""
        return turn_status(self.store.turn(turn_id))

    def retry(
        self, ids: Sequence[str] | str | None = None, *, where: MessageFilter | None = None, actor: str | None = None,
        reason: str | None = None,
    ) -> OperatorResult:  # fmt: skip
        """Make terminal or parked messages due again, from attempt 0 and with a fresh TTL; recorded with who and why."""
        return self.store.replay(_meant(ids, where), BULK_LIMIT, actor=actor, reason=reason)

    def cancel(
        self, ids: Sequence[str] | str | None = None, *, where: MessageFilter | None = None, actor: str | None = None,
        reason: str | None = None,
    ) -> OperatorResult:  # fmt: skip
        """Withdraw messages that are not being sent; recorded with who and why."""
        return self.store.cancel(_meant(ids, where), BULK_LIMIT, actor=actor, reason=reason)

    def resolve(
        self, ids: Sequence[str] | str | None = None, *, sent: bool, where: MessageFilter | None = None,
        actor: str | None = None, reason: str | None = None,
    ) -> OperatorResult:  # fmt: skip
        """Say of parked messages whether they were sent: recorded as delivered, or due again from attempt 0."""
        return self.store.resolve(_meant(ids, where), BULK_LIMIT, sent=sent, actor=actor, reason=reason)

    def pause(
        self, channel: str, *, target: str = "", for_s: float | None = None, reason: str = "", actor: str | None = None
    ) -> None:
        """Stop sending through a channel, or to one of its targets, for ``for_s`` seconds or until it is resumed; on record."""
        for_ms = None if for_s is None else round(for_s * 1000)
        self.store.close(channel, target, GateKind.PAUSE, for_ms=for_ms, reason=reason, actor=actor)

    def resume(self, channel: str, *, target: str | None = None, reason: str | None = None, actor: str | None = None) -> int:
        """Open a channel, or one of its targets, again, whoever closed it, on record; returns how many gates there were."""
        gates = self.store.reopen(channel, target, actor=actor, reason=reason)
        self.delivery.forget_health(channel)
        return gates

    def relay_once(self, *, budget_s: float = 0.75) -> RelayReport:
        """One relay pass that delivers in this process, without a broker: for tests, scripts and small tools."""
        return self._inline.run_once(budget_s=budget_s)

    def maintain_once(self) -> dict[str, int]:
        """One maintenance pass; returns the rows changed by service."""
        return self.maintenance.run_once()

    def drain(self, *, timeout_s: float = 60.0) -> int:
        """Deliver in this process until nothing is due, or ``timeout_s`` has passed; returns the messages attempted."""
        attempted, until = 0, time.monotonic() + timeout_s
        while time.monotonic() < until:
            claimed = self._inline.run_once(budget_s=until - time.monotonic()).claimed
            attempted += claimed
            if not claimed:
                break
        return attempted

    def owner(self) -> str:
        """The name under which this process holds leases: unique while any of its rows is in flight."""
        return self.owner_of(os.getpid())

    def owner_of(self, pid: int) -> str:
        """The name of process ``pid``, this one or one forked from it."""
        return f"{socket.gethostname()}:{self._start_token}:{pid}"

    def close(self) -> None:
        """Stop sending, record what could not be recorded so far, and give back connections.

        Raises what the database still refuses those outcomes with; without it they count as unknown once their lease is over.
        """
        try:
            self.delivery.close(list(self.channels))
        finally:
            if self.application_engine is None or self.application_engine.pool is not self.store.engine.pool:
                self.store.engine.dispose()


def _forget_after_fork(outbox: "ref[Outbox]") -> None:
    """No connection, thread or unrecorded outcome of the parent's may be used by a child: it begins anew."""

    def begin_anew() -> None:
        here = outbox()
        if here is not None:
            here.store.after_fork()
            here.delivery = here.delivery.in_child()

    os.register_at_fork(after_in_child=begin_anew)


class _InlineDispatcher:
    """Delivers in the relay's own process."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def dispatch(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            self._outbox.delivery.run(self._outbox.channels.get(batch.channel), batch)


def _meant(ids: Sequence[str] | str | None, where: MessageFilter | None) -> MessageFilter:
    wanted = where or MessageFilter()
    if ids is not None:
        wanted = replace(wanted, ids=[ids] if isinstance(ids, str) else [*ids])
    if wanted.is_empty or (ids is not None and not wanted.ids):
        raise OperationRefused("name the messages, by id or by a filter: this would touch every one")
    return wanted
