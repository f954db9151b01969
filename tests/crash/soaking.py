"""A soak under way: commit without end, let the siege strike, look every few seconds, and tell of each minute."""

import os
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from psutil import NoSuchProcess
from psycopg import OperationalError
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from outbox.errors import OutboxError
from tests.crash import endurance, gauges, workloads
from tests.crash.arming import Act
from tests.crash.endurance import PINNED, Sample
from tests.crash.evidence import Fate
from tests.crash.fleet import Fleet
from tests.crash.history import History
from tests.crash.receiver import Verdict
from tests.crash.siege import Siege
from tests.crash.workloads import Order
from tests.integration.celery.nodes import Node

COMMIT_EVERY_S = 0.4
LOOK_EVERY_S = 2.0
FULL = 150
"""Messages that are not at rest; above them the application waits."""
AMPLE_ATTEMPTS = 50
"""So that nothing dies of the siege that was meant to arrive."""
CONVERSATIONS = 8
DIES_BY_HAND = 0.1
MIX = (
    workloads.letters, workloads.crowd, workloads.refusals, workloads.parking, workloads.asking, workloads.entries,
    workloads.singles, workloads.sluggish,
)  # fmt: skip
TIMED = ("single", "webhook", "crowd")
"""Channels whose messages nobody refuses on purpose."""
AWAY = (DBAPIError, OperationalError, OutboxError)


@dataclass(frozen=True)
class Minute:
    """A line of the report."""

    minute: int
    enqueued: int
    delivered: int
    deaths: int
    backlog: int
    p50_s: float | None
    p99_s: float | None
    memory_mb: float
    handles: int
    wal_mb: float
    past: float
    load: float
    """Of the machine, averaged over the minute: above the number of its processors everything is slow for want of them."""
    pinned: bool


@dataclass
class _Told:
    """What the lines so far have counted."""

    enqueued: int = 0
    arrivals: int = 0
    deaths: int = 0
    samples: int = 0
    seq: int = 0


@dataclass
class Soak:
    """One run. ``veterans`` are the nodes that the siege spares."""

    fleet: Fleet
    siege: Siege
    database: gauges.Database
    veterans: Sequence[Node]
    chance: random.Random
    length_s: float
    history: History = field(init=False)
    samples: list[Sample] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    minutes: list[Minute] = field(default_factory=list)
    away: Counter[str] = field(default_factory=Counter)
    _queued: dict[str, float] = field(default_factory=dict)
    _told: _Told = field(default_factory=_Told)
    _was_pinned: bool = False
    """Since the last line."""

    def __post_init__(self) -> None:
        self.history = History(self.fleet)
        self._began = time.time()
        self._pids = [node.pid for node in self.veterans]

    def carry_out(self, tell: Any) -> None:
        """Until its time is over; ``tell`` hears each minute's line."""
        self._began = time.time()
        commit_at = look_at = 0.0
        tell_at = 60.0
        reader: Any = None
        while (now := time.time() - self._began) < self.length_s:
            self.fleet.tend()
            self.siege.spares_the_database = not endurance.is_storm(now, self.length_s)
            self.siege.step(now)
            is_pinned = PINNED[0] * self.length_s <= now < PINNED[1] * self.length_s
            self._was_pinned |= is_pinned
            if is_pinned and reader is None:
                reader = self.database.pin()
            elif reader is not None and not is_pinned:
                reader = reader.close()
            if now >= commit_at and not self._is_full():
                self._commit()
                commit_at = now + COMMIT_EVERY_S
            if now >= look_at:
                self._look(now)
                look_at = now + LOOK_EVERY_S
            if now >= tell_at:
                tell(self._line(now))
                tell_at += 60
            time.sleep(0.02)
        self.siege.lift()
        if reader is not None:
            reader.close()
        tell(self._line(now))

    def come_to_rest(self) -> float:
        """How many seconds it took until nothing was left to do, first with all nodes, then with the veterans alone."""
        began = time.time()
        self._await_rest()
        for node in (self.fleet.relay, self.fleet.delivery):
            self.fleet.dismiss(node)
        self.history.commit(_ample(order) for order in workloads.letters())
        self._await_rest()
        return round(time.time() - began, 2)

    def deaths(self) -> int:
        """Whoever was killed, restarted or frozen so far."""
        return len(self.history.deeds()) + self.siege.strikes.total()

    def growth(self, limits: endurance.Limits) -> Sequence[str]:
        """What endurance is missing."""
        gone = [
            f"ended: {node.name}, whom nobody struck, with the words {_last_words(node.log())!r}"
            for node, pid in zip(self.veterans, self._pids, strict=True)
            if node.pid != pid
        ]
        return [*gone, *endurance.judge(self.samples, self.latencies, self.length_s, limits)]

    def lines(self) -> Sequence[Mapping[str, Any]]:
        """For the report."""
        return [asdict(minute) for minute in self.minutes]

    def _await_rest(self) -> None:
        self.fleet.until(lambda: not self.fleet.under_way(), lambda: f"rest\n{self.fleet.logs()}", patience_s=180)

    def _is_full(self) -> bool:
        return bool(self.samples) and self.samples[-1].backlog > FULL

    def _commit(self) -> None:
        """Now and then in a process that dies of it."""
        conversation = self.chance.randrange(CONVERSATIONS)
        orders = [_ample(order, conversation) for order in self.chance.choice(MIX)()]
        try:
            if self.chance.random() < DIES_BY_HAND:
                self.fleet.plans.lay(self.chance.choice(["enqueue.inserted", "enqueue.nudge"]), {1: Act.KILL})
                self.history.commit_by_hand(orders, may_fail=True)
            else:
                self.history.commit(orders)
        except AWAY as error:
            self.away[type(error).__name__] += 1

    def _look(self, now: float) -> None:
        try:
            sample = Sample(
                now, gauges.memory_mb(self.veterans), gauges.handles(self.veterans), self.database.wal_mb(),
                self.database.past(), len(self.fleet.under_way()),
            )  # fmt: skip
        except (*AWAY, NoSuchProcess) as error:
            self.away[type(error).__name__] += 1
        else:
            self.samples.append(sample)

    def _line(self, now: float) -> Minute:
        told, since = self._told, self.samples[self._told.samples :]
        while True:
            try:
                enqueued = self._count_orders()
                break
            except AWAY:
                time.sleep(0.1)
        arrivals = self.fleet.ledger.arrivals(told.arrivals)
        accepted = [arrival for arrival in arrivals if arrival.verdict is Verdict.ACCEPTED]
        took = [(a.at - self._began, a.at - queued) for a in accepted if (queued := self._queued.pop(a.key, None)) is not None]
        self.latencies += took
        seconds = [each for _, each in took]
        last = since[-1] if since else self.samples[-1]
        line = Minute(
            round(now / 60), enqueued - told.enqueued, len(accepted), self.deaths() - told.deaths, last.backlog,
            _round(endurance.quantile(seconds, 0.5)), _round(endurance.quantile(seconds, 0.99)),
            round(endurance.worst(since, lambda s: sum(s.memory_mb.values())), 1),
            int(endurance.worst(since, lambda s: sum(s.handles.values()))),
            round(endurance.worst(since, lambda s: s.wal_mb), 1), round(endurance.worst(since, lambda s: s.past), 1),
            round(os.getloadavg()[0], 1), self._was_pinned,
        )  # fmt: skip
        self._told = replace(
            told, enqueued=enqueued, arrivals=told.arrivals + len(arrivals), deaths=self.deaths(), samples=len(self.samples)
        )
        self._was_pinned = False
        self.minutes.append(line)
        return line

    def _count_orders(self) -> int:
        """And note when what came in since was queued."""
        m, key = self.fleet.outbox.store.tables.messages, func.coalesce
        with self.fleet.outbox.store.transaction(read_only=True) as tx:
            new = select(m.c.seq, key(m.c.idempotency_key, m.c.id).label("key"), m.c.channel, m.c.queued_at)
            for row in tx.connection.execute(new.where(m.c.seq > self._told.seq).order_by(m.c.seq)):
                self._told.seq = row.seq
                if row.channel in TIMED:
                    self._queued[row.key] = row.queued_at / 1000
            return int(tx.connection.execute(text("select count(*) from orders")).scalar_one())


def _ample(order: Order, conversation: int = 0) -> Order:
    fields = dict(order.fields)
    if "ordering_key" in fields:
        fields["ordering_key"] += str(conversation)
    if order.fate is not Fate.DEAD:
        fields.setdefault("max_attempts", AMPLE_ATTEMPTS)
    return replace(order, fields=fields)


def _last_words(log: str) -> str:
    """What a node said at the end of its life before the present one, which begins with Celery's banner.

    From where Celery calls an error unrecoverable, if it does: the worker then still finishes its tasks, and talks of them.
    """
    life = log.rpartition(" -------------- ")[0]
    _, told, why = life.rpartition("Unrecoverable error")
    return (told + why)[:4_000] if told else life[-2_000:]


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
