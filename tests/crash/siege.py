"""What befalls a fleet under ceaseless fire: deaths, restarts and standstills of everything but its veterans, at random."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress

import psutil

from tests.crash.arming import Act
from tests.crash.fleet import Fleet
from tests.crash.matrix import CELLS
from tests.integration.celery.nodes import Node
from tests.servers.keeper import process_tree
from tests.servers.postgresql import OwnPostgresServer
from tests.servers.valkey import OwnValkeyServer

PLANS_EVERY_S = 8.0
STRIKE_EVERY_S = 12.0
"""On average."""
STRIKE_THE_DATABASE_EVERY_S = 15.0
"""On average, in a storm."""
FROZEN_S = 3.5
"""Longer than a lease."""
CHECKPOINTS = sorted({cell.checkpoint.partition("@")[0] for cell in CELLS if not (cell.by_hand or cell.before or cell.after)})


class Siege:
    """Moves on at each :meth:`step`. Of each kind of node there is one that it spares, so that something gets old."""

    def __init__(
        self, fleet: Fleet, broker: OwnValkeyServer, database: OwnPostgresServer | None, chance: random.Random
    ) -> None:
        self.strikes: Counter[str] = Counter()
        self.spares_the_database = False
        self._fleet = fleet
        self._broker = broker
        self._database = database
        self._chance = chance
        self._plans_at = self._strike_at = self._database_at = 0.0
        self._restorations: dict[str, tuple[float, Callable[[], None]]] = {}
        self._weapons = self._choice()

    def step(self, now: float) -> None:
        """Bring back what was away for long enough, and strike if it is time."""
        for name, (until, restore) in list(self._restorations.items()):
            if now >= until:
                del self._restorations[name]
                restore()
        if now >= self._plans_at:
            self._plans_at = now + PLANS_EVERY_S
            self._lay_plans()
        if now >= self._strike_at:
            self._strike_at = now + self._chance.expovariate(1 / STRIKE_EVERY_S)
            self._strike(now)
        if self._database is not None and not self.spares_the_database and now >= self._database_at:
            self._database_at = now + self._chance.expovariate(1 / STRIKE_THE_DATABASE_EVERY_S)
            self._strike_the_database(self._database)

    def lift(self) -> None:
        """It is over: everything comes back."""
        self._fleet.plans.lift()
        for _, restore in self._restorations.values():
            restore()
        self._restorations.clear()

    def _lay_plans(self) -> None:
        """Two new traps; those that nobody stepped into so far are taken away."""
        self._fleet.plans.lift()
        for checkpoint in self._chance.sample(CHECKPOINTS, 2):
            role = self._chance.choice(["relay", "delivery"])
            acts = {self._chance.randint(1, 8): self._chance.choice([Act.KILL, Act.NODE])}
            self._fleet.plans.lay(f"{checkpoint}@{role}", acts)

    def _strike(self, now: float) -> None:
        weapons = list(self._weapons)
        [name] = self._chance.choices(weapons, [self._weapons[weapon][0] for weapon in weapons])
        if name not in self._restorations and self._weapons[name][1](now):
            self.strikes[name] += 1

    def _strike_the_database(self, database: OwnPostgresServer) -> None:
        """At once, and it is back at the end: the application of this soak, which has no other database, waits for it too."""
        blow = min(("killed", "restarted", "frozen"), key=lambda blow: self.strikes[f"database {blow}"])
        server, away_s = database.process, self._chance.uniform(0.2, 2)
        match blow:
            case "killed":
                server.kill()
                time.sleep(away_s)
                server.start()
            case "restarted":
                server.stop()
                server.start()
            case "frozen":
                server.freeze()
                time.sleep(away_s + FROZEN_S)
                server.thaw()
        self.strikes[f"database {blow}"] += 1

    def _choice(self) -> Mapping[str, tuple[float, Callable[[float], bool]]]:
        """By name how often, against the others, and what is done; it says whether it was."""
        fleet = self._fleet
        return {
            "pool process killed": (3, lambda _: _kill_child(fleet.delivery, self._chance)),
            "delivering node killed": (2, lambda _: _kill(fleet.delivery)),
            "relaying node killed": (2, lambda _: _kill(fleet.relay)),
            "beat killed": (2, lambda _: _kill(fleet.beat)),
            "delivering node restarted": (1, lambda _: _ask_to_end(fleet.delivery)),
            "relaying node restarted": (1, lambda _: _ask_to_end(fleet.relay)),
            "delivering node frozen": (1, self._freeze_delivery),
            "broker killed": (1, self._kill_broker),
            "broker frozen": (1, self._freeze_broker),
            "receiver killed": (1, self._kill_receiver),
        }

    def _freeze_delivery(self, now: float) -> bool:
        node = self._fleet.delivery
        if not node.is_running():
            return False
        frozen = process_tree(node.pid)
        for process in frozen:
            _signal(process, signal.SIGSTOP)
        self._restorations["delivering node frozen"] = (
            now + FROZEN_S, lambda: [_signal(process, signal.SIGCONT) for process in frozen] and None,
        )  # fmt: skip
        return True

    def _kill_broker(self, now: float) -> bool:
        if "broker frozen" in self._restorations:
            return False
        self._broker.process.kill()
        self._restorations["broker killed"] = (now + self._chance.uniform(0.2, 3), self._broker.process.start)
        return True

    def _freeze_broker(self, now: float) -> bool:
        if "broker killed" in self._restorations:
            return False
        self._broker.process.freeze()
        self._restorations["broker frozen"] = (now + self._chance.uniform(0.5, 3), self._broker.process.thaw)
        return True

    def _kill_receiver(self, now: float) -> bool:
        self._fleet.receiver.kill()
        self._restorations["receiver killed"] = (now + self._chance.uniform(0.2, 2), self._fleet.receiver.start)
        return True


def _kill_child(node: Node, chance: random.Random) -> bool:
    children = sorted(node.children()) if node.is_running() else []
    if children:
        os.kill(chance.choice(children), signal.SIGKILL)
    return bool(children)


def _kill(node: Node) -> bool:
    if not node.is_running():
        return False
    node.kill()
    return True


def _ask_to_end(node: Node) -> bool:
    if not node.is_running():
        return False
    node.terminate()
    return True


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
