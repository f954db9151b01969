"""All the processes of one outbox: a node that relays and maintains, one that delivers, beat, the receiver, and the hand.

Whatever dies is started again as soon as somebody looks, as whoever runs it in production would.
"""

import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select, text

from outbox.lifecycle import TERMINAL, Status
from tests.crash.application import Settings, channels, create
from tests.crash.arming import Plans
from tests.crash.hand import ROOT, Hand
from tests.crash.receiver import Ledger
from tests.integration.celery.nodes import Node, Nursery, eventually
from tests.integration.celery.stack import WITHOUT_CHATTER
from tests.servers.postgresql import OwnPostgresServer
from tests.servers.proxy import Proxy

APPLICATION = "tests.crash.app"
PATIENCE_S = 60.0
AT_REST = TERMINAL | {Status.PARKED}


class Fleet:
    """On an empty database, with a broker of its own."""

    def __init__(
        self, database: str, broker: str, pool: str, directory: Path, nursery: Nursery, *, without_fences: str = "",
        deliveries: int = 1, line: Proxy | None = None, through: Mapping[str, str] | None = None, has_clocks: bool = False,
        server: OwnPostgresServer | None = None,
    ) -> None:  # fmt: skip
        """``line``, to ``database`` or ``broker`` as ``through`` names them, is that of the relay and the delivery node.

        Beat, spare nodes, the hand and the test have lines of their own, which never break. With ``has_clocks`` it is the same
        with their clocks: ``clock`` is everybody's but these two nodes', ``their_clock`` theirs.
        """
        self._line = line
        self._server = server
        self.clock, self.their_clock = directory / "clock", directory / "their-clock"
        for clock in (self.clock, self.their_clock):
            clock.write_text("0")
        if has_clocks:
            through = {**(through or {}), "clock": str(self.their_clock)}
        plans = directory / "plans"
        plans.mkdir()
        self.plans_directory = plans
        self.plans = Plans(plans)
        self.receiver = ReceiverProcess(directory / "ledger.db")
        self.settings = Settings(
            database, broker, self.receiver.url, str(plans), without_fences=without_fences,
            clock=str(self.clock) if has_clocks else "",
        )  # fmt: skip
        self.ledger = Ledger(directory / "ledger.db")
        self.outbox = create(self.settings)[1]
        self._nudge, self.outbox.on_commit = self.outbox.on_commit, None
        self.outbox.upgrade_schema()
        with self.outbox.store.engine.begin() as connection:
            connection.execute(text("create table orders (id varchar(36) primary key, name text)"))
            connection.execute(text("create table effects (id varchar(36))"))
        self.outbox.pause("closed")
        self.hand = Hand()
        self._nursery = nursery
        self._queues = ",".join(f"outbox.{channel.name}" for channel in channels(self.settings.receiver))
        in_a_process = 1 if pool == "prefork" else deliveries
        self.at_once = {it.name: it.concurrency * in_a_process for it in self.outbox.channels}
        """By channel, how many sends a process of the delivery node may have under way: it takes no row before it has a slot
        for its send, nor another one without recording what has ended.
        """
        self.relay = self._worker("relay", pool, "outbox.relay", 2, through)
        self.delivery = self._worker("delivery", pool, self._queues, deliveries, through)
        self.beat = self._node("beat", ["beat", "-s", str(directory / "schedule"), "-l", "WARNING"], "")
        self.nodes = [self.relay, self.delivery, self.beat]
        for node in (self.relay, self.delivery):
            node.await_ready()

    @property
    def line(self) -> Proxy:
        """The line that may break."""
        assert self._line is not None, "this fleet was made without"
        return self._line

    @property
    def server(self) -> OwnPostgresServer:
        """The PostgreSQL that may fail."""
        assert self._server is not None, "this fleet was made without"
        return self._server

    def tend(self) -> None:
        """Start what has died."""
        for node in self.nodes:
            node.revive()

    def another_relay(self, pool: str) -> Node:
        """Start a second node that relays and maintains."""
        node = self._worker("relay-2", pool, "outbox.relay", 2)
        self.nodes.append(node)
        return node.await_ready()

    def another_delivery(self, pool: str) -> Node:
        """Start a second node that delivers."""
        node = self._worker("delivery-2", pool, self._queues, 1)
        self.nodes.append(node)
        return node.await_ready()

    def dismiss(self, node: Node) -> None:
        """End a node for good."""
        self.nodes.remove(node)
        node.close()

    @contextmanager
    def without(self, node: Node) -> Iterator[None]:
        """Kill a node, and let nobody start it again while the block runs."""
        node.kill()
        self.nodes.remove(node)
        try:
            yield
        finally:
            self.nodes.append(node)

    @contextmanager
    def nudging(self) -> Iterator[None]:
        """What is committed in the block is nudged for, as it is in production; what is committed otherwise waits for beat."""
        self.outbox.on_commit = self._nudge
        try:
            yield
        finally:
            self.outbox.on_commit = None

    def until(self, condition: Callable[[], object], what: str | Callable[[], str], *, patience_s: float = PATIENCE_S) -> None:
        """Wait, and meanwhile start what has died."""
        eventually(lambda: (self.tend(), condition())[1], what, patience_s=patience_s)

    def rest(self, ids: Collection[str]) -> None:
        """Wait until nothing is to be done for these messages any more."""
        self.until(
            lambda: all(status in AT_REST for status in self.statuses(ids).values()),
            lambda: f"rest, and there are {self.statuses(ids)}\n{self.logs()}",
        )

    def statuses(self, ids: Collection[str]) -> Mapping[str, Status]:
        """The statuses of those messages that are kept."""
        m = self.outbox.store.tables.messages
        with self.outbox.store.transaction(read_only=True) as tx:
            rows = tx.connection.execute(select(m.c.id, m.c.status).where(m.c.id.in_(ids)))
            return {row.id: Status(row.status) for row in rows}

    def under_way(self) -> Collection[str]:
        """The messages that are not at rest."""
        m = self.outbox.store.tables.messages
        with self.outbox.store.transaction(read_only=True) as tx:
            return list(tx.connection.execute(select(m.c.id).where(m.c.status.not_in(AT_REST))).scalars())

    def tried(self) -> Collection[str]:
        """The messages that have attempts on record."""
        log = self.outbox.store.tables.attempts
        with self.outbox.store.transaction(read_only=True) as tx:
            return set(tx.connection.execute(select(log.c.message_id).distinct()).scalars())

    def orders(self, prefix: str) -> Mapping[str, str]:
        """What the application committed under names that begin so: message ids by name."""
        with self.outbox.store.engine.connect() as connection:
            rows = connection.execute(text("select name, id from orders"))
            return {row.name: row.id for row in rows if row.name.startswith(prefix)}

    def effects(self) -> Sequence[str]:
        """The effects of the transactional channel."""
        with self.outbox.store.engine.connect() as connection:
            return list(connection.execute(text("select id from effects")).scalars())

    def does(self, deed: str, **order: Any) -> int:
        """Let the hand do something, as a process that may die of it; its exit code."""
        return self.hand.does(deed, self.plans_directory, settings=asdict(self.settings), **order)

    def logs(self) -> str:
        """The end of every node's log."""
        return "\n".join(f"--- {node.name}\n{node.log()[-6_000:]}" for node in self.nodes)

    def close(self) -> None:
        for node in self.nodes:
            node.close()
        self.hand.close()
        self.ledger.close()
        self.receiver.close()
        self.outbox.close()

    def _worker(self, role: str, pool: str, queues: str, concurrency: int, through: Mapping[str, str] | None = None) -> Node:
        options = ["-n", f"{role}@here", "-P", pool, "-c", str(concurrency), "-Q", queues, "-l", "INFO"]
        return self._node(role, ["worker", *WITHOUT_CHATTER, *options], " ready.", **(through or {}))

    def _node(self, role: str, arguments: Sequence[str], ready: str, **settings: str) -> Node:
        environment = replace(self.settings, role=role, **settings).to_environment()
        return Node(self._nursery, role, arguments, environment, ready, APPLICATION)


class ReceiverProcess:
    """The other side, which may die and come back at the same address; its ledger outlives it."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self.has_died = False
        self.url = "http://127.0.0.1:0"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.crash.receiver", str(self._ledger), self.url.rpartition(":")[2]]
        self._process = subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def kill(self) -> None:
        self.has_died = True
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Let it end in good order."""
        self._process.communicate("")
