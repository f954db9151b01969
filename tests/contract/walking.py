"""Everybody at once, at random: applications, relays, workers, maintenance and operators take turns on one outbox."""

import random
from typing import Any

from sqlalchemy import select

from outbox.lifecycle import ACTIVE, DUE, TERMINAL, TRANSITIONS, Event, Status
from outbox.message import Claim, Message
from outbox.policy.retry import Verdict
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.steps import (
    CHANNEL,
    DEAD,
    DEFERRED,
    DELIVERED,
    MINUTE,
    PARKED,
    RESCUED,
    RETRY,
    SECOND,
    WITHHELD,
    cancel,
    claim,
    enqueue,
    new_row,
    replay,
    settle,
    take,
)

Rows = dict[str, dict[str, Any]]

EVENTS: dict[str, tuple[Event, ...]] = {
    "enqueue": (),
    "claim": (Event.CLAIM, Event.POSTPONE),
    "redispatch": (Event.REDISPATCH,),
    "release": (Event.RELEASE_UNTRIED, Event.RELEASE_TRIED),
    "take": (Event.TAKE, Event.RELEASE_UNTRIED, Event.RELEASE_TRIED),
    "settle": (
        Event.DELIVER, Event.DELIVER_LATE, Event.RETRY, Event.FAIL, Event.PARK, Event.SUPPRESS, Event.RELEASE_UNTRIED,
        Event.RELEASE_TRIED,
    ),
    "expire": (Event.EXPIRE,),
    "rescue": (Event.RETRY, Event.PARK, Event.FAIL),
    "cancel": (Event.CANCEL,),
    "replay": (Event.REPLAY,),
    "wait": (),
}  # fmt: skip
"""What each step may do to a row, in the words of the transition table."""


class Walk:
    """A random walk. The broker forgets, repeats and delays; workers die, come back late, and hold more than one row."""

    def __init__(self, store: SQLStore, clock: FakeClock, seed: int) -> None:
        self.store = store
        self.clock = clock
        self.random = random.Random(seed)
        self.broker: list[Claim] = []
        self.held: list[Message] = []
        self.names: list[str] = []
        self.rows: Rows = {}

    def step(self) -> None:
        """One random step, and what must hold after every one."""
        name = self.random.choice([*EVENTS, "claim", "take", "take", "settle", "settle", "enqueue"])
        getattr(self, f"_{name}")()
        before, self.rows = self.rows, self._read()
        self._check(name, before, self.rows)

    def drain(self) -> None:
        """From here on everything succeeds: no row may be left that nobody looks at any more. Nobody mends lost marks."""
        for _ in range(50 + 5 * len(self.names)):
            parked = [name for name, row in self.rows.items() if row["status"] == Status.PARKED]
            if parked:
                cancel(self.store, *parked)
            self.clock.advance(MINUTE)
            self.store.expire(100)
            self._rescue()
            for message in take(self.store, [*self.store.redispatch(CHANNEL, 100), *claim(self.store)]):
                settle(self.store, message, DELIVERED)
            self.rows = self._read()
            if all(row["status"] in TERMINAL for row in self.rows.values()):
                return
        raise AssertionError({name: row for name, row in self.rows.items() if row["status"] in ACTIVE})

    def _read(self) -> Rows:
        m = self.store.tables.messages
        with self.store.transaction(read_only=True) as tx:
            return {row["id"]: dict(row) for row in tx.connection.execute(select(m).order_by(m.c.seq)).mappings()}

    def _enqueue(self) -> None:
        pick = self.random.choice
        for _ in range(self.random.randint(1, 3)):
            row = new_row(
                id=f"m{len(self.names):03}",
                ordering_key=pick([None, "a", "a", "b"]),
                target=pick(["up", "up", "down"]),
                delay_ms=pick([0, 0, 0, 10 * SECOND]),
                ttl_ms=pick([None, None, 40 * SECOND]),
                dispatch_kind=pick(["final", "final", "final", "tool"]),
            )
            self.names += enqueue(self.store, row)

    def _claim(self) -> None:
        closed = {"down": self.clock.now + 20 * SECOND} if self.random.random() < 0.3 else {}
        limit, per_key = self.random.choice([1, 3, 10]), self.random.choice([1, 2, 10])
        self.broker += claim(self.store, limit=limit, per_key=per_key, closed=closed)

    def _redispatch(self) -> None:
        self.broker += self.store.redispatch(CHANNEL, 10)

    def _some_copies(self) -> list[Claim]:
        copies = self.random.sample(self.broker, min(len(self.broker), self.random.randint(1, 4)))
        for copy in copies:
            if self.random.random() < 0.7:  # else the broker delivers it again some day
                self.broker.remove(copy)
        return copies

    def _take(self) -> None:
        self.held += take(self.store, self._some_copies(), owner=self.random.choice(["worker-1", "worker-2"]))

    def _release(self) -> None:
        self.store.release(self._some_copies())

    def _settle(self) -> None:
        if not self.held:
            return
        message = self.random.choice(self.held)
        if self.random.random() < 0.9:  # else the same outcome comes twice
            self.held.remove(message)
        verdict = self.random.choice([DELIVERED, DELIVERED, RETRY, DEAD, PARKED, DEFERRED, WITHHELD])
        if verdict in (RETRY, PARKED) and not message.is_final:
            verdict = DEAD
        if verdict is DEFERRED and message.attempt_count > 1:
            verdict = Verdict(Status.FAILED_RETRYABLE, 5 * SECOND, charged=False)
        settle(self.store, message, verdict)

    def _expire(self) -> None:
        self.store.expire(self.random.choice([1, 100]))

    def _rescue(self) -> None:
        def decide(message: Message) -> Verdict:
            return RESCUED if message.is_final else DEAD

        self.store.rescue(decide, 100, owner=self.random.choice([None, None, "worker-1"]))

    def _cancel(self) -> None:
        if self.names:
            cancel(self.store, self.random.choice(self.names))

    def _replay(self) -> None:
        if self.names:
            replay(self.store, *self.random.sample(self.names, min(3, len(self.names))))

    def _wait(self) -> None:
        self.clock.advance(self.random.choice([1, SECOND, 5 * SECOND, 31 * SECOND, MINUTE]))

    def _check(self, step: str, before: Rows, after: Rows) -> None:
        for name, row in after.items():
            if name in before:
                self._check_change(step, before[name], row)
        for rows in self._by_key(after).values():
            self._check_order(before, rows)
        assert self.store.violations(10) == []

    def _check_change(self, step: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        assert new["lease"] >= old["lease"], (step, old, new)
        if new["status"] != old["status"]:
            allowed = {(source, TRANSITIONS[event].target) for event in EVENTS[step] for source in TRANSITIONS[event].sources}
            both = {(source, last) for source, target in allowed for middle, last in allowed if middle == target}
            assert (old["status"], new["status"]) in allowed | both, (step, old, new)
        elif old["status"] in TERMINAL:
            assert new == old, (step, old, new)

    def _by_key(self, rows: Rows) -> dict[str, list[dict[str, Any]]]:
        keys: dict[str, list[dict[str, Any]]] = {}
        for row in rows.values():
            if row["ordering_key"] is not None and row["status"] in ACTIVE:
                keys.setdefault(row["ordering_key"], []).append(row)
        return keys

    def _check_order(self, before: Rows, rows: list[dict[str, Any]]) -> None:
        sending = [row for row in rows if row["status"] == Status.SENDING]
        begun = [row for row in sending if before[row["id"]]["status"] != Status.SENDING]
        waits = [row for row in rows if not self._is_untried_and_future(row)]
        if begun:
            assert begun == sending, "somebody took of a key of which another taking is being sent"
            assert begun == waits[: len(begun)], (begun, waits)
        head = waits[0] if waits else None
        if head and not sending and head["status"] in DUE and head["next_attempt_at"] <= self.clock.now:
            assert not head["blocked"], "a mark was lost: nobody but maintenance will ever look at this row"

    def _is_untried_and_future(self, row: dict[str, Any]) -> bool:
        return row["lease"] == 0 and row["status"] == Status.QUEUED and row["next_attempt_at"] > self.clock.now
