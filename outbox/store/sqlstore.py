"""The store on SQLite and PostgreSQL: opens the transaction, runs the verb, and runs it again where that is safe."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from outbox import checkpoints
from outbox.clock import Clock, SystemClock
from outbox.errors import ConfigurationError, TransactionError
from outbox.lifecycle import Event, Status
from outbox.message import AttemptRecord, Claim, Message, Queued
from outbox.policy.destination import Breaker, Limits
from outbox.policy.retry import Verdict
from outbox.store import (
    arriving,
    blocking,
    claiming,
    counting,
    enqueueing,
    gating,
    importing,
    inspecting,
    listing,
    operating,
    pacing,
    postgresql,
    rewinding,
    settling,
    sqlite,
    sweeping,
    taking,
    tallying,
)
from outbox.store.driver_errors import as_outbox_error, may_run_again
from outbox.store.records import (
    ChannelStats,
    Claimed,
    Completed,
    Count,
    Gate,
    GateKind,
    GateOperation,
    ImportedEntry,
    ImportReceipt,
    Lane,
    Line,
    MessageFilter,
    NewRow,
    OperationRecord,
    OperatorResult,
    Page,
    Pending,
    Place,
    Places,
    Settled,
    Settlement,
    Stamp,
    Taker,
    Tally,
    Violation,
)
from outbox.store.schema import DEFAULT_TABLE, Tables, define
from outbox.store.sql import Sql, Transaction

_Result = TypeVar("_Result")

_TRIES = 3


class SQLStore:
    """The :class:`~outbox.store.protocol.Store` over a SQLAlchemy engine.

    Every verb is one short transaction. It is run again after a deadlock, and once after a lost connection: each verb is
    fenced, so running it twice is harmless even when the first commit took effect.
    """

    def __init__(self, engine: Engine, tables: Tables, *, clock: Clock | None = None, log_successes: bool = False) -> None:
        self.engine = engine
        self.tables = tables
        dialect = sqlite.SQLiteDialect() if engine.dialect.name == "sqlite" else postgresql.PostgreSQLDialect()
        self.sql = Sql(tables, dialect, clock)
        self._clock = clock or SystemClock()
        self._log_successes = log_successes

    @contextmanager
    def transaction(self, *, read_only: bool = False, anew: bool = False) -> Iterator[Transaction]:
        """A transaction of the store's own, ``anew`` on a new connection; the time is read once it has begun."""
        with self.engine.connect() as connection:
            if anew:
                connection.invalidate()
            connection.execution_options(**{sqlite.READ_ONLY: read_only})
            with connection.begin():
                yield Transaction(connection, self.sql, self._clock.now_ms())

    @contextmanager
    def connection_for_schema(self, *, read_only: bool = False) -> Iterator[Connection]:
        """A transaction in which the schema may be read and changed. Raises typed errors for an unreachable database."""
        try:
            with self.transaction(read_only=read_only) as tx:
                yield tx.connection
        except DBAPIError as error:
            raise as_outbox_error(error, self.tables) from error

    def after_fork(self) -> None:
        """Forget the parent's connections: none may cross a fork."""
        self.engine.dispose(close=False)

    def add(self, handle: Any, rows: Sequence[NewRow]) -> list[Queued]:
        own, given = self.engine.dialect.name, handle.dialect.name
        if own != given:
            raise TransactionError(f"the outbox is in {own}, and this connection leads to {given}")
        return enqueueing.add(handle, self.sql, rows, self._clock.now_ms())

    def pending(self, channels: Sequence[str]) -> Pending:
        return self._read(arriving.pending, channels)

    def in_flight(self, channel: str) -> Mapping[int, int]:
        return self._read(arriving.held_by_priority, channel)

    def stamp(self, channels: Sequence[str], defaults: Callable[[Message], Stamp], limit: int) -> int:
        return self._write(arriving.stamp, channels, defaults, limit)

    def claim(self, lane: Lane, limit: int, limits: Limits, owner: str | None = None) -> Claimed:
        return self._write(claiming.claim, lane, limit, limits, owner)

    def redispatch(self, channel: str, limit: int, owner: str | None = None) -> list[Claim]:
        return self._write(claiming.redispatch, channel, limit, owner)

    def recall(self, owner: str, within_ms: int, limit: int) -> int:
        return self._write(claiming.recall, owner, within_ms, limit)

    def release(self, claims: Sequence[Claim]) -> int:
        return self._write(taking.release, claims)

    def take(self, claims: Sequence[Claim], taker: Taker) -> list[Message]:
        return self._write(taking.take, claims, taker)

    def settle(self, settlements: Sequence[Settlement]) -> Settled:
        return self._write(settling.settle, settlements, log_successes=self._log_successes)

    def settle_and_take(
        self, settlements: Sequence[Settlement], claims: Sequence[Claim], taker: Taker
    ) -> tuple[Settled, list[Message]]:
        def settle_and_take(tx: Transaction) -> tuple[Settled, list[Message]]:
            settled = settling.settle(tx, settlements, log_successes=self._log_successes)
            return settled, taking.take(tx, claims, taker)

        if not claims:
            return self.settle(settlements), []
        if not settlements:
            return Settled(), self.take(claims, taker)
        return self._write(settle_and_take)

    def work_and_settle(self, settlement: Settlement, work: Callable[[Any], str | None]) -> bool:
        try:
            self._write(settling.work_and_settle, settlement, work, self._log_successes)
        except settling.LeaseGone:
            return False
        return True

    def already_settled(self, settlements: Sequence[Settlement]) -> frozenset[str]:
        return self._read(settling.already_settled, settlements)

    def extend(self, held: Sequence[Message], *, run_lease_ms: int, longest_ms: int) -> set[str]:
        return self._write(taking.extend, held, run_lease_ms=run_lease_ms, longest_ms=longest_ms)

    def expire(self, limit: int) -> int:
        return self._write(sweeping.expire, limit)

    def rescue(self, decide: Callable[[Message], Verdict | None], limit: int, *, owner: str | None = None) -> int:
        return self._write(sweeping.rescue, decide, limit, owner=owner)

    def completed(self) -> list[Completed]:
        return self._read(sweeping.completed)

    def prune(self, channel: str, status: Status, kept_ms: int, limit: int) -> int:
        return self._write(sweeping.prune, channel, status, kept_ms, limit)

    def blank(self, channel: str, status: Status, after_ms: int, since: int, limit: int) -> tuple[int, int]:
        return self._write(sweeping.blank, channel, status, after_ms, since, limit)

    def prunable(self, channel: str, status: Status, kept_ms: int) -> int:
        return self._read(sweeping.prunable, channel, status, kept_ms)

    def tally(self, limit: int) -> int:
        return self._write(tallying.tally, limit)

    def tallies(self, since_ms: int, step_ms: int) -> list[Tally]:
        return self._read(tallying.tallies, since_ms, step_ms)

    def forget_tallies(self) -> int:
        return self._write(tallying.forget_tallies)

    def mend(self, after: tuple[str, str], limit: int) -> tuple[int, tuple[str, str] | None]:
        return self._write(blocking.mend, after, limit)

    def unfuture(self, longest_retry_ms: int, longest_lease_ms: int, after: Places, limit: int) -> tuple[int, Places]:
        return self._write(rewinding.unfuture, longest_retry_ms, longest_lease_ms, after, limit)

    def forget_buckets(self) -> int:
        return self._write(pacing.forget_buckets)

    def close(
        self, channel: str, target: str, kind: GateKind, *, for_ms: int | None, reason: str, actor: str | None = None
    ) -> None:
        self._write(gating.close, channel, target, kind, for_ms=for_ms, reason=reason, actor=actor)

    def close_growing(self, channel: str, kind: GateKind, *, at_least_ms: int, reason: str) -> None:
        self._write(gating.close_growing, channel, kind, at_least_ms=at_least_ms, reason=reason)

    def reopen(
        self, channel: str, target: str | None, kind: GateKind | None = None, *, actor: str | None = None,
        reason: str | None = None,
    ) -> int:  # fmt: skip
        return self._write(gating.reopen, channel, target, kind, actor=actor, reason=reason)

    def note_failures(self, channel: str, failures: Mapping[str, int], breaker: Breaker, *, reason: str) -> frozenset[str]:
        return self._write(gating.note_failures, channel, failures, breaker, reason=reason)

    def note_successes(self, channel: str, targets: Collection[str]) -> frozenset[str]:
        if not self._read(gating.has_failures, channel, targets):
            return frozenset()  # as of most targets, even while one fails: that is no business for the write lock
        return self._write(gating.note_successes, channel, targets)

    def gates(self, *, closed_only: bool = True) -> list[Gate]:
        return self._read(gating.gates, closed_only=closed_only)

    def replay(self, wanted: MessageFilter, limit: int, *, actor: str | None, reason: str | None) -> OperatorResult:
        return self._write(operating.replay, wanted, limit, actor=actor, reason=reason)

    def cancel(self, wanted: MessageFilter, limit: int, *, actor: str | None, reason: str | None) -> OperatorResult:
        return self._write(operating.cancel, wanted, limit, actor=actor, reason=reason)

    def rehearse(self, event: Event, wanted: MessageFilter, limit: int) -> OperatorResult:
        return self._read(operating.rehearse, event, wanted, limit)

    def resolve(
        self, wanted: MessageFilter, limit: int, *, sent: bool, actor: str | None, reason: str | None
    ) -> OperatorResult:
        return self._write(operating.resolve, wanted, limit, sent=sent, actor=actor, reason=reason)

    def find(self, message_id: str) -> Message | None:
        return self._read(inspecting.find, message_id)

    def list_messages(self, wanted: MessageFilter, limit: int) -> list[Message]:
        return self._read(inspecting.list_messages, wanted, limit)

    def page(self, wanted: MessageFilter, after: Place | None, limit: int) -> Page:
        return self._read(listing.page, wanted, after, limit)

    def find_named(self, name: str, channels: Sequence[str], limit: int) -> list[Line]:
        return self._read(listing.find_named, name, channels, limit)

    def attempts(self, message_id: str) -> list[AttemptRecord]:
        return self._read(inspecting.attempts, message_id)

    def operations(self, message_id: str) -> list[OperationRecord]:
        return self._read(inspecting.operations, message_id)

    def gate_operations(self, limit: int) -> list[GateOperation]:
        return self._read(inspecting.gate_operations, limit)

    def stats(self) -> list[ChannelStats]:
        return self._read(inspecting.stats)

    def census(self, most: int) -> list[Count]:
        return self._read(counting.census, most)

    def turn(self, turn_id: str) -> dict[Status, int]:
        return self._read(inspecting.turn, turn_id)

    def violations(self, limit: int) -> list[Violation]:
        return self._read(inspecting.violations, limit)

    def channels_in_use(self) -> dict[str, int]:
        return self._read(inspecting.channels_in_use)

    def now_ms(self) -> int:
        return self._read(inspecting.now_ms)

    def receipts(self, source_ids: Sequence[str]) -> dict[str, ImportReceipt]:
        return self._read(importing.receipts, source_ids)

    def import_entries(self, entries: Sequence[ImportedEntry]) -> frozenset[str]:
        return self._write(importing.import_entries, entries)

    def read_back(self, entries: Sequence[ImportedEntry]) -> frozenset[str]:
        return self._run(importing.read_back, [entries], {}, read_only=True, anew=True)

    def is_durable(self) -> bool:
        return self._read(importing.is_durable)

    def _read(self, verb: Callable[..., _Result], *arguments: Any, **options: Any) -> _Result:
        return self._run(verb, arguments, options, read_only=True)

    def _write(self, verb: Callable[..., _Result], *arguments: Any, **options: Any) -> _Result:
        return self._run(verb, arguments, options, read_only=False)

    def _run(
        self, verb: Callable[..., _Result], arguments: Sequence[Any], options: Mapping[str, Any], *, read_only: bool,
        anew: bool = False,
    ) -> _Result:  # fmt: skip
        for tries_left in reversed(range(_TRIES)):
            try:
                with self.transaction(read_only=read_only, anew=anew) as tx:
                    result = verb(tx, *arguments, **options)
                    if not read_only:
                        checkpoints.reach(verb.__name__, "before_commit")
                if not read_only:
                    checkpoints.reach(verb.__name__, "committed")
                return result
            except DBAPIError as error:
                if tries_left == 0 or not may_run_again(error):
                    raise as_outbox_error(error, self.tables) from error
        raise AssertionError("unreachable: the last try returns or raises")


def open_store(
    url: str | URL | None = None, *, engine: Engine | None = None, table_name: str = DEFAULT_TABLE,
    clock: Clock | None = None, log_successes: bool = False,
) -> SQLStore:  # fmt: skip
    """A store on ``url``, or on an application's own ``engine``. Nothing is connected yet.

    A SQLite engine of the application's is used for its URL only: the store's transactions must begin immediate and be
    durable, which is the application's own business for its own. Raises :class:`~outbox.errors.ConfigurationError`.
    """
    if (url is None) == (engine is None):
        raise ConfigurationError("name the database either by URL or by engine")
    tables = define(table_name)
    if engine is None or (engine.dialect.name == "sqlite" and not sqlite.in_memory(engine.url)):
        engine = _engine_for(url if url is not None else engine.url if engine is not None else "")
    elif engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="READ COMMITTED")
    elif engine.dialect.name != "sqlite":
        raise ConfigurationError(f"{engine.dialect.name} is not supported: use SQLite or PostgreSQL")
    return SQLStore(engine, tables, clock=clock, log_successes=log_successes)


def _engine_for(url: str | URL) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return sqlite.engine_for(parsed)
        if parsed.get_backend_name() == "postgresql":
            return postgresql.engine_for(parsed)
    except ArgumentError:
        raise ConfigurationError(
            "the database URL does not parse; it looks like sqlite:///app.db or postgresql+psycopg://user@host/name"
        ) from None
    except ValueError:
        raise ConfigurationError(
            "the port in the database URL is not a number; a / : or @ in a password is written %2F %3A %40"
        ) from None
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigurationError(f"no driver for this database URL ({error}): pip install 'celery-outbox[postgres]'") from error
    raise ConfigurationError(f"{parsed.get_backend_name()} is not supported: use SQLite or PostgreSQL")
