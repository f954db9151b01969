"""One cell of the matrix on one fleet: lay the plan, commit, let processes die and come back, and ask the oracle."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from outbox.lifecycle import Status
from tests.crash.arming import Act
from tests.crash.fleet import Fleet
from tests.crash.history import History
from tests.crash.matrix import Cell, Deed, acts
from tests.crash.oracle import judge

WAVE_S = 1.5
"""Longer than a node needs to come back and a service to pass: a hit that has not come by then comes with more work, such as a
row to stamp.
"""


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
        self._history = History(fleet)

    def carry_out(self) -> Result:
        """The whole run, and what the oracle says of it."""
        fleet, cell, history = self._fleet, self._cell, self._history
        fleet.tend()
        if not cell.held:
            fleet.plans.lay(cell.checkpoint, acts(cell.hits))
        if cell.prelude is not None:
            _, of_a_pool, role = cell.checkpoint.partition("@")
            fleet.plans.lay(f"{cell.prelude}@{role or 'delivery'}", {1: Act.KILL if of_a_pool else Act.NODE})
        for deed in cell.before:
            self._operate(deed)
        if cell.by_hand:
            assert not history.commit_by_hand(cell.workload()), "the application lives"
            assert history.commit_by_hand(cell.workload())
        elif cell.unrelayed:
            self._do_without_a_relay()
        else:
            history.commit(cell.workload())
        if cell.held:
            self._hold()
        for deed in cell.waiting:
            self._operate(deed)
        fleet.rest(history.ids())
        for deed in cell.after:
            self._operate(deed)
            fleet.rest(history.ids())
        self._make_for_every_death()
        fleet.rest(history.ids())
        rested_at = time.time()
        fleet.plans.lift()
        return self._result(rested_at)

    def _do_without_a_relay(self) -> None:
        """Nobody but a delivery task can claim; and nobody but the node of one that has died can make due what it claimed."""
        fleet, history = self._fleet, self._history
        with fleet.without(fleet.relay):
            for deaths in range(1, self._cell.unrelayed + 1):
                history.commit(self._cell.workload(), nudges=True)
                fleet.until(partial(self._have_died, deaths), self._missing)
            if self._cell.comes_back:
                fleet.until(
                    lambda: Status.DISPATCHED not in fleet.statuses(history.ids()).values(),
                    lambda: f"the return of what was claimed, and there are {fleet.statuses(history.ids())}\n{fleet.logs()}",
                )

    def _make_for_every_death(self) -> None:
        """Commit more of the same now and then, until each planned hit was made."""
        next_wave_at = time.monotonic() + WAVE_S

        def all_have_died() -> bool:
            nonlocal next_wave_at
            if self._have_died(len(self._cell.hits)):
                return True
            if time.monotonic() > next_wave_at:
                self._history.commit(self._cell.workload())
                next_wave_at = time.monotonic() + WAVE_S
            return False

        self._fleet.until(all_have_died, self._missing)

    def _hold(self) -> None:
        """Keep relay and maintenance away until something of theirs is ripe; then let them come, to die of it."""
        fleet = self._fleet
        if self._cell.prelude is not None:
            fleet.until(self._history.deeds, f"a death at {self._cell.prelude}")
        with fleet.without(fleet.relay):
            fleet.until(self._is_ripe, "something that is overdue")
            fleet.plans.lay(self._cell.checkpoint, acts(self._cell.hits))

    def _is_ripe(self) -> bool:
        now = self._fleet.outbox.store.now_ms()
        return any(
            (row.expires_at or now) < now or (row.status is Status.SENDING and (row.lease_until or now) < now)
            for row in self._history.rows().values()
        )

    def _operate(self, deed: Deed) -> None:
        """Again and again until it has come to its end: whoever died in the middle of it does it once more."""
        options: dict[str, Any] = dict(deed.options)
        if deed.by_id:
            options["ids"] = list(self._history.ids())
        for _ in range(1 + len(self._cell.hits)):
            if self._fleet.does("operate", verb=deed.verb, **options) == 0:
                return
        raise AssertionError(f"{deed.verb} never came to its end")

    def _deaths(self) -> int:
        """How many died at the cell's own checkpoint."""
        checkpoint = self._cell.checkpoint.partition("@")[0]
        return sum(deed.checkpoint == checkpoint for deed in self._history.deeds())

    def _have_died(self, count: int) -> bool:
        return self._deaths() >= count

    def _missing(self) -> str:
        return f"a death at {self._cell.name} after {self._deaths()}\n{self._fleet.logs()}"

    def _result(self, rested_at: float) -> Result:
        findings = judge(self._history.evidence(), self._cell.copies)
        died_at = [deed.at for deed in self._history.deeds()]
        recovery_s = round(max(0.0, rested_at - max(died_at, default=rested_at)), 2)
        return Result(
            self._cell.name, len(died_at), findings.messages, findings.lost, findings.duplicated, recovery_s, findings.problems
        )
