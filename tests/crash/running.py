"""One cell of the matrix on one fleet: lay the plan, commit, let processes die and come back, and ask the oracle."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from outbox import Outbox
from outbox.lifecycle import Status
from tests.crash.arming import Act
from tests.crash.fleet import Fleet
from tests.crash.hand import enqueue
from tests.crash.matrix import Cell, Deed, acts
from tests.crash.oracle import Evidence, judge

_numbers = count(1)


@dataclass(frozen=True)
class Result:
    """A line of the report."""

    checkpoint: str
    kills: int
    messages: int
    lost: int
    duplicated: int
    recovery_s: float
    """From the last death until every message was at rest."""
    problems: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Run:
    """A cell under way."""

    def __init__(self, fleet: Fleet, cell: Cell) -> None:
        self._fleet = fleet
        self._cell = cell
        self._prefix = f"run{next(_numbers)}"
        self._orders = list(cell.workload())
        self._deeds_before = len(fleet.plans.deeds())
        self._arrivals_before = len(fleet.ledger.arrivals())
        self._last_seq = max((message.seq for message in fleet.outbox.list(limit=1)), default=0)

    def carry_out(self) -> Result:
        """The whole run, and what the oracle says of it."""
        fleet, cell = self._fleet, self._cell
        fleet.tend()
        if not cell.held:
            fleet.plans.lay(cell.checkpoint, acts(cell.hits))
        if cell.prelude is not None:
            fleet.plans.lay(f"{cell.prelude}@delivery", {1: Act.KILL if "@" in cell.checkpoint else Act.NODE})
        for deed in cell.before:
            self._operate(deed)
        self._commit()
        if cell.held:
            self._hold()
        for deed in cell.waiting:
            self._operate(deed)
        fleet.rest(self._ids())
        for deed in cell.after:
            self._operate(deed)
            fleet.rest(self._ids())
        if cell.hits:
            fleet.until(self._has_died, lambda: f"a death at {cell.name}\n{fleet.logs()}")
        rested_at = time.time()
        fleet.plans.lift()
        return self._result(rested_at)

    def _commit(self) -> None:
        """Half of it by an application that knows no channels; some are rolled back; the hand may die of it."""
        fleet = self._fleet
        wanted = [order.named(f"{self._prefix}-{n}", keyed=n % 2 == 0) for n, order in enumerate(self._orders)]
        if self._cell.by_hand:
            assert fleet.does("commit", orders=wanted, knowing=True) == -9
            again = [
                {**o, "payload": {**o["payload"], "name": f"{o['payload']['name']}-again"}, "idempotency_key": None}
                for o in wanted
            ]
            assert fleet.does("commit", orders=again, knowing=True) == 0
            return
        middle = len(wanted) // 2
        simple = Outbox(fleet.settings.database)
        enqueue(simple, wanted[:middle])
        simple.close()
        enqueue(fleet.outbox, wanted[middle:])
        with fleet.outbox.store.engine.connect() as connection:
            for n in range(3):
                fleet.outbox.enqueue(connection, "plain", payload={}, idempotency_key=f"{self._prefix}-undone-{n}")
            connection.rollback()

    def _hold(self) -> None:
        """Keep relay and maintenance away until something of theirs is ripe; then let them come, to die of it."""
        fleet = self._fleet
        if self._cell.prelude is not None:
            fleet.until(lambda: len(self._deeds()) == 1, f"a death at {self._cell.prelude}")
        with fleet.without(fleet.relay):
            fleet.until(self._is_ripe, "something that is overdue")
            fleet.plans.lay(self._cell.checkpoint, acts(self._cell.hits))

    def _is_ripe(self) -> bool:
        now = self._fleet.outbox.store.now_ms()
        rows = self._rows().values()
        return any(
            (row.expires_at or now) < now or (row.status is Status.SENDING and (row.lease_until or now) < now) for row in rows
        )

    def _operate(self, deed: Deed) -> None:
        """Again and again until it has come to its end: whoever died in the middle of it does it once more."""
        options: dict[str, Any] = dict(deed.options)
        if deed.by_id:
            options["ids"] = list(self._ids())
        for _ in range(1 + len(self._cell.hits)):
            if self._fleet.does("operate", verb=deed.verb, **options) == 0:
                return
        raise AssertionError(f"{deed.verb} never came to its end")

    def _has_died(self) -> bool:
        return any(deed.checkpoint == self._cell.checkpoint.partition("@")[0] for deed in self._deeds())

    def _deeds(self) -> Sequence[Any]:
        return self._fleet.plans.deeds()[self._deeds_before :]

    def _ids(self) -> Collection[str]:
        return self._fleet.orders(f"{self._prefix}-").values()

    def _rows(self) -> Mapping[str, Any]:
        return {m.id: m for m in self._fleet.outbox.list(limit=1_000) if m.seq > self._last_seq}

    def _result(self, rested_at: float) -> Result:
        findings = judge(self._evidence(), may_repeat=self._cell.may_repeat)
        deeds = self._deeds()
        recovery_s = max(0.0, rested_at - max((deed.at for deed in deeds), default=rested_at))
        return Result(
            self._cell.name, len(deeds), findings.messages, findings.lost, findings.duplicated, round(recovery_s, 2),
            findings.problems,
        )  # fmt: skip

    def _evidence(self) -> Evidence:
        fleet = self._fleet
        committed = fleet.orders(f"{self._prefix}-")
        fates = {f"{self._prefix}-{n}{again}": o.fate for n, o in enumerate(self._orders) for again in ("", "-again")}
        keyed = {f"{self._prefix}-{n}" for n in range(0, len(self._orders), 2)}
        undone = {f"{self._prefix}-undone-{n}" for n in range(3)} | (keyed - committed.keys())
        rows = self._rows()
        return Evidence(
            wanted={message_id: fates[name] for name, message_id in committed.items()},
            rolled_back=undone,
            keys={message_id: name if name in keyed else message_id for name, message_id in committed.items()},
            rows=rows,
            attempts={message_id: fleet.outbox.attempts(message_id) for message_id in rows},
            arrivals=fleet.ledger.arrivals()[self._arrivals_before :],
            effects=[name for name in fleet.effects() if name in committed.values()],
            deeds=self._deeds(),
            violations=[f"{found.id} is {found.status}: {found.problem}" for found in fleet.outbox.store.violations(10)],
        )
