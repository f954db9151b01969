"""Whatever happens, in whatever order: a small model, SQLite and PostgreSQL agree after every step, and everything ends."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import delete, select

from outbox.lifecycle import DUE, EXPIRABLE, REPLAYABLE, TERMINAL, Status
from outbox.message import Claim, Message
from outbox.policy.destination import Limits
from outbox.policy.retry import Verdict
from outbox.store.records import GateKind, NewRow
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from outbox.testing.clock import START_MS
from tests.contract.conftest import OpenStore
from tests.contract.held_open import LANE
from tests.contract.steps import (
    CHANNEL,
    DEAD,
    DEFERRED,
    DELIVERED,
    MINUTE,
    PARKED,
    RESCUED,
    RETRY,
    RUN_LEASE_MS,
    SECOND,
    WITHHELD,
    cancel,
    enqueue,
    ids,
    new_row,
    prune,
    replay,
    settle,
    take,
)
from tests.stateful.model import WHOLE_CHANNEL, Model

_Answer = TypeVar("_Answer")

OWNERS = ["worker-1", "worker-2"]
TARGETS = ["here", "here", "there"]
PLACES = [WHOLE_CHANNEL, "here", "there", "there"]
VERDICTS = [DELIVERED, DELIVERED, RETRY, DEAD, PARKED, DEFERRED, WITHHELD]
LONGEST_MS = 2 * RUN_LEASE_MS


@dataclass(frozen=True)
class Order:
    """What is enqueued."""

    key: str | None
    target: str
    is_final: bool
    delay_ms: int
    ttl_ms: int | None


ORDERS = st.builds(
    Order, st.sampled_from([None, "a", "a", "b"]), st.sampled_from(TARGETS), st.sampled_from([True, True, False]),
    st.sampled_from([0, 0, 0, 10 * SECOND]), st.sampled_from([None, None, 40 * SECOND]),
)  # fmt: skip


class Machine(RuleBasedStateMachine):
    """The broker forgets, repeats and delays what it carries; workers die, come back late, and hold more than one row."""

    stores: Sequence[SQLStore]
    clock: FakeClock

    def __init__(self) -> None:
        super().__init__()
        for store in self.stores:
            with store.transaction() as tx:
                for table in (store.tables.messages, store.tables.attempts, store.tables.operations, store.tables.gates):
                    tx.connection.execute(delete(table))
        self.clock.now = START_MS
        self.model = Model(START_MS)
        self.broker: list[Claim] = []
        self.held: list[Message] = []
        self.names = 0

    @initialize(orders=st.lists(ORDERS, min_size=2, max_size=4))
    def begin(self, orders: list[Order]) -> None:
        self.enqueue(orders)

    @rule(orders=st.lists(ORDERS, min_size=1, max_size=3))
    def enqueue(self, orders: list[Order]) -> None:
        for order in orders:
            row = self._named(order)
            self.model.enqueue(
                row.id, key=order.key, target=order.target, is_final=order.is_final, delay_ms=order.delay_ms,
                ttl_ms=order.ttl_ms,
            )  # fmt: skip
            for store in self.stores:
                enqueue(store, row)

    @rule(order=ORDERS)
    def roll_back(self, order: Order) -> None:
        row = self._named(order)
        for store in self.stores:
            with store.engine.connect() as connection:
                store.add(connection, [row])
                connection.rollback()

    @precondition(lambda self: self._any(DUE) and WHOLE_CHANNEL not in self.model.closed())
    @rule(per_key=st.sampled_from([1, 2, 10]), owner=st.sampled_from(OWNERS))
    def claim(self, per_key: int, owner: str) -> None:
        """The relay has looked at the pauses."""
        closed = self.model.closed()
        limits = Limits(per_key=per_key, closed=frozenset(closed))
        before = self._leases()
        claims = self._alike(lambda store: sorted(store.claim(LANE, 100, limits, owner).claims, key=lambda each: each.id))
        self.model.postpone(closed, _changed(before, self._leases()))
        assert ids(claims) == self.model.claim(per_key, owner, closed)
        self.broker += claims

    @rule(place=st.sampled_from(PLACES), for_ms=st.sampled_from([None, SECOND, 40 * SECOND]))
    def pause(self, place: str, for_ms: int | None) -> None:
        for store in self.stores:
            store.close(CHANNEL, place, GateKind.PAUSE, for_ms=for_ms, reason="work on the line")
        self.model.pause(place, for_ms)

    @precondition(lambda self: self.model.pauses)
    @rule(place=st.sampled_from([None, *PLACES]))
    def resume(self, place: str | None) -> None:
        before = self._moments()
        resumed = self._alike(lambda store: store.reopen(CHANNEL, place))
        assert resumed == self.model.resume(place, _changed(before, self._moments()))

    @precondition(lambda self: self._any({Status.DISPATCHED}))
    @rule(owner=st.sampled_from(OWNERS))
    def redispatch(self, owner: str) -> None:
        claims = self._alike(lambda store: sorted(store.redispatch(CHANNEL, 100, owner), key=lambda each: each.id))
        assert ids(claims) == self.model.redispatch(owner)
        self.broker += claims

    @precondition(lambda self: self._any({Status.DISPATCHED}))
    @rule(owner=st.sampled_from(OWNERS), within_ms=st.sampled_from([0, 5 * SECOND, 61 * SECOND]))
    def recall(self, owner: str, within_ms: int) -> None:
        """Copies of what is given back stay in the broker, or never came there."""
        recalled = self._alike(lambda store: store.recall(owner, within_ms, 100))
        assert recalled == self.model.recall(owner, within_ms)

    @precondition(lambda self: self._any(DUE) and WHOLE_CHANNEL not in self.model.closed())
    @rule(owner=st.sampled_from(OWNERS))
    def claim_and_take(self, owner: str) -> None:
        """As it goes when nothing comes between."""
        before = len(self.broker)
        self.claim(1, owner)
        for copy in self.broker[before:]:
            self._take(copy, owner)

    @precondition(lambda self: self.broker)
    @rule(data=st.data(), owner=st.sampled_from(OWNERS), is_repeated=st.booleans())
    def take(self, data: st.DataObject, owner: str, is_repeated: bool) -> None:
        self._take(self._copy(data, is_repeated=is_repeated), owner)

    @precondition(lambda self: self.broker)
    @rule(data=st.data(), is_repeated=st.booleans())
    def release(self, data: st.DataObject, is_repeated: bool) -> None:
        copy = self._copy(data, is_repeated=is_repeated)
        assert self._alike(lambda store: store.release([copy])) == int(self.model.release(copy))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), verdict=st.sampled_from(VERDICTS), is_repeated=st.booleans())
    def settle(self, data: st.DataObject, verdict: Verdict, is_repeated: bool) -> None:
        """In time or late, once or twice."""
        message = data.draw(st.sampled_from(self.held))
        if not is_repeated:
            self.held.remove(message)
        if verdict in (RETRY, PARKED) and not message.is_final:
            verdict = DEAD
        if verdict is DEFERRED and message.attempt_count > 1:
            verdict = Verdict(Status.FAILED_RETRYABLE, 5 * SECOND, charged=False)
        self._settle(message, verdict)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.held))
        held = self._alike(lambda store: store.extend([message], run_lease_ms=RUN_LEASE_MS, longest_ms=LONGEST_MS))
        assert bool(held) == self.model.extend(message.id, message.lease, RUN_LEASE_MS, LONGEST_MS)

    @precondition(lambda self: any(row.expires_at for row in self.model.rows.values() if row.status in EXPIRABLE))
    @rule()
    def expire(self) -> None:
        assert self._alike(lambda store: store.expire(100)) == self.model.expire()

    @precondition(lambda self: self._any({Status.SENDING}))
    @rule(owner=st.sampled_from([None, None, "worker-1"]))
    def rescue(self, owner: str | None) -> None:
        rescued = self._alike(lambda store: store.rescue(_decide, 100, owner=owner))
        assert rescued == self.model.rescue(RESCUED, DEAD, owner)

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(list(self.model.rows)))
        assert bool(self._alike(lambda store: cancel(store, name).changed)) == self.model.cancel(name)

    @precondition(lambda self: self._any(REPLAYABLE))
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(list(self.model.rows)))
        assert bool(self._alike(lambda store: replay(store, name).changed)) == self.model.replay(name)

    @precondition(lambda self: self._any(TERMINAL))
    @rule(status=st.sampled_from(sorted(TERMINAL)), kept_ms=st.sampled_from([0, MINUTE]))
    def prune(self, status: Status, kept_ms: int) -> None:
        assert self._alike(lambda store: prune(store, status, kept_ms)) == self.model.prune(status, kept_ms)

    @rule(ms=st.sampled_from([1, SECOND, 6 * SECOND, 31 * SECOND, 61 * SECOND]))
    def wait(self, ms: int) -> None:
        self.clock.now = self.model.now = self.clock.now + ms

    @precondition(lambda self: self.model.next_moment() is not None)
    @rule()
    def wait_for_something(self) -> None:
        """A horizon, a lease or a lifetime passes, or a pause is over."""
        self.wait((self.model.next_moment() or 0) - self.clock.now + 1)

    @rule(ms=st.sampled_from([1, SECOND, MINUTE]))
    def jump_back(self, ms: int) -> None:
        """The clock goes back; maintenance, which looks every few seconds, takes away marks that this has made untrue."""
        self.clock.now = self.model.now = self.clock.now - ms
        for store in self.stores:
            store.mend(("", ""), 1_000)

    @invariant()
    def all_agree(self) -> None:
        expected = {
            row.id: (
                row.status, row.lease, row.attempts, row.due_at, row.expires_at, row.until,
                int(row.is_unknown), row.completed_at,
            )
            for row in self.model.rows.values()
        }  # fmt: skip
        assert self._alike(_read) == expected
        assert self._alike(_pauses) == (self.model.pauses, self.model.closed())
        assert self._alike(lambda store: store.violations(10)) == []

    def teardown(self) -> None:
        """From here on everything succeeds: no row may be left that nobody looks at any more. Nobody mends lost marks."""
        self.resume(None)
        for _ in range(20 + 3 * self.names):
            for row in [row for row in self.model.rows.values() if row.status is Status.PARKED]:
                self._alike(lambda store, name=row.id: cancel(store, name).changed)
                self.model.cancel(row.id)
            self.wait(61 * SECOND)
            self.expire()
            self.rescue(None)
            self.broker.clear()
            self.redispatch(OWNERS[0])
            self.claim(1, OWNERS[0])
            for copy in self.broker:
                self.held.clear()
                self._take(copy, OWNERS[0])
                for message in self.held:
                    self._settle(message, DELIVERED)
            self.all_agree()
            if all(row.status in TERMINAL for row in self.model.rows.values()):
                return
        raise AssertionError({row.id: row for row in self.model.rows.values() if row.status not in TERMINAL})

    def _named(self, order: Order) -> NewRow:
        self.names += 1
        return new_row(
            id=f"m{self.names:03}", ordering_key=order.key, target=order.target,
            dispatch_kind="final" if order.is_final else "tool", delay_ms=order.delay_ms, ttl_ms=order.ttl_ms,
        )  # fmt: skip

    def _leases(self) -> dict[str, Any]:
        return {name: columns[1] for name, columns in self._alike(_read).items()}

    def _moments(self) -> dict[str, Any]:
        return {name: columns[3] for name, columns in self._alike(_read).items()}

    def _any(self, statuses: Collection[Status]) -> bool:
        return any(row.status in statuses for row in self.model.rows.values())

    def _take(self, copy: Claim, owner: str) -> None:
        taken = self._alike(lambda store: take(store, [copy], owner=owner), ids)
        assert bool(taken) == self.model.take(copy, owner, RUN_LEASE_MS)
        self.held += taken

    def _settle(self, message: Message, verdict: Verdict) -> None:
        recorded = self._alike(lambda store: settle(store, message, verdict).recorded)
        assert bool(recorded) == self.model.settle(message.id, message.lease, verdict)

    def _copy(self, data: st.DataObject, *, is_repeated: bool) -> Claim:
        copy: Claim = data.draw(st.sampled_from(self.broker))
        if not is_repeated:  # else the broker delivers it again some day
            self.broker.remove(copy)
        return copy

    def _alike(self, verb: Callable[[SQLStore], _Answer], seen: Callable[[Any], object] = lambda answer: answer) -> _Answer:
        """The answer that both stores give."""
        answers = [verb(store) for store in self.stores]
        assert seen(answers[0]) == seen(answers[1])
        return answers[0]


def _decide(message: Message) -> Verdict:
    return RESCUED if message.is_final else DEAD


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [name for name, value in before.items() if after[name] != value]


def _pauses(store: SQLStore) -> tuple[dict[str, int | None], dict[str, int | None]]:
    """All that stand, and those that hold now."""
    return tuple({gate.target: gate.closed_until for gate in store.gates(closed_only=only)} for only in (False, True))


def _read(store: SQLStore) -> dict[str, tuple[Any, ...]]:
    c = store.tables.messages.c
    columns = (
        c.id, c.status, c.lease, c.attempt_count, c.next_attempt_at, c.expires_at, c.lease_until, c.outcome_unknown,
        c.completed_at,
    )  # fmt: skip
    with store.transaction(read_only=True) as tx:
        rows = tx.connection.execute(select(*columns)).all()
    return {row.id: (Status(row.status), *row[2:8], row.completed_at) for row in rows}


@pytest.mark.proves("R3", "T5")
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(("examples", "steps"), [(30, 50), pytest.param(200, 60, marks=[pytest.mark.crash, pytest.mark.slow])])
def test_invariant_6_model_sqlite_and_postgresql_agree_whatever_happens_and_everything_ends(
    sqlite_outbox_url: str, postgres_outbox_url: str, open_known: OpenStore, clock: FakeClock, examples: int, steps: int
) -> None:
    stores = [open_known(url, "one", clock) for url in (sqlite_outbox_url, postgres_outbox_url)]
    machine = type("Machine", (Machine,), {"stores": stores, "clock": clock})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=steps, derandomize=examples < 100, database=None)
    )
