"""What was committed on a fleet since a moment, and what became of it: the evidence of one run."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from itertools import count

from outbox import Message, Outbox
from tests.crash import arming
from tests.crash.evidence import Evidence
from tests.crash.fleet import Fleet
from tests.crash.hand import enqueue
from tests.crash.workloads import Order

KILLED = -9
_numbers = count(1)


class History:
    """Begins when it is made. Every other message has an idempotency key of its own; the others go by their id."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._prefix = f"run{next(_numbers)}-"
        self._orders: dict[str, Order] = {}
        self._keyed: set[str] = set()
        self._undone: set[str] = set()
        self._deeds_before = len(fleet.plans.deeds())
        self._arrivals_before = fleet.ledger.count()
        self._last_seq = max((message.seq for message in fleet.outbox.list(limit=1)), default=0)

    def commit(self, orders: Iterable[Order], *, nudges: bool = False) -> None:
        """Half of them by an application that knows no channels; three messages are rolled back. With ``nudges``, who knows
        the channels nudges for those that are due.
        """
        fleet, wanted = self._fleet, self._named(orders)
        middle = len(wanted) // 2
        with closing(Outbox(fleet.settings.database)) as simple:
            enqueue(simple, wanted[:middle])
        with fleet.nudging() if nudges else nullcontext():
            enqueue(fleet.outbox, wanted[middle:])
            with fleet.outbox.store.engine.connect() as connection:
                for _ in range(3):
                    undone = f"{self._prefix}undone-{len(self._undone)}"
                    self._undone.add(undone)
                    fleet.outbox.enqueue(connection, "plain", payload={}, idempotency_key=undone)
                connection.rollback()

    def commit_and_see_arrive(self, orders: Iterable[Order]) -> None:
        """And wait until something has arrived since: the work is under way."""
        fleet, arrived = self._fleet, len(self._fleet.ledger.arrivals())
        self.commit(orders)
        fleet.until(lambda: len(fleet.ledger.arrivals()) > arrived, "an arrival")

    def commit_by_hand(self, orders: Iterable[Order], *, may_fail: bool = False) -> bool:
        """In a process that may die of it; whether it came to its end. ``may_fail``: or raise, for want of a database."""
        exit_code = self._fleet.does("commit", orders=self._named(orders))
        assert exit_code in (0, KILLED) or may_fail
        return exit_code == 0

    def ids(self) -> Collection[str]:
        """The messages that were committed."""
        return self._fleet.orders(self._prefix).values()

    def rows(self) -> Mapping[str, Message]:
        """What the outbox has of them, and of whatever else came in meanwhile."""
        return {m.id: m for m in self._fleet.outbox.list(limit=1_000_000) if m.seq > self._last_seq}

    def deeds(self) -> Sequence[arming.Deed]:
        """Who died or stood still since."""
        return self._fleet.plans.deeds()[self._deeds_before :]

    def evidence(self) -> Evidence:
        """For the oracle."""
        fleet, rows = self._fleet, self.rows()
        committed = fleet.orders(self._prefix)
        ids, tried = set(committed.values()), fleet.tried()
        return Evidence(
            wanted={message_id: self._orders[name].fate for name, message_id in committed.items()},
            rolled_back=self._undone | (self._keyed - committed.keys()),
            keys={message_id: name if name in self._keyed else message_id for name, message_id in committed.items()},
            rows=rows,
            attempts={message_id: fleet.outbox.attempts(message_id) for message_id in rows if message_id in tried},
            arrivals=fleet.ledger.arrivals(self._arrivals_before),
            effects=[name for name in fleet.effects() if name in ids],
            deeds=self.deeds(),
            violations=[f"{found.id} is {found.status}: {found.problem}" for found in fleet.outbox.store.violations(10)],
            at_once=fleet.at_once,
            receiver_has_died=fleet.receiver.has_died,
        )

    def _named(self, orders: Iterable[Order]) -> list[dict[str, object]]:
        named = []
        for order in orders:
            name = f"{self._prefix}{len(self._orders)}"
            keyed = len(self._orders) % 2 == 0
            self._orders[name] = order
            if keyed:
                self._keyed.add(name)
            named.append(order.named(name, keyed=keyed))
        return named
