"""One outbox with its database, broker, ledger and processes, for one test."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from outbox import Message, NewMessage
from tests.integration.celery.application import Application, Settings, create
from tests.integration.celery.ledger import Ledger
from tests.integration.celery.nodes import Node, Nursery, eventually

WITHOUT_CHATTER = ("--without-gossip", "--without-mingle")


class Stack:
    """The test process is the application that enqueues; workers and beat are processes of their own.

    ``nudging`` says whether its commits wake the relay, as they do unless a test wants to decide itself who relays and when.
    """

    def __init__(self, settings: Settings, directory: Path, nursery: Nursery, *, nudging: bool) -> None:
        self.settings = settings
        self.directory = directory
        self._nursery = nursery
        self.ledger = Ledger(Path(settings.ledger))
        self.application: Application = create(settings)
        self.outbox = self.application.outbox
        if not nudging:
            self.outbox.on_commit = None
        self.outbox.upgrade_schema()
        self.nodes: list[Node] = []

    def worker(
        self, *, pool: str = "prefork", concurrency: int = 2, queues: Sequence[str] = (), options: Sequence[str] = (),
        **settings: Any,
    ) -> Node:  # fmt: skip
        """Begin a worker node; without ``queues`` it serves all of the outbox's. ``settings`` replace those of the stack."""
        name = f"worker-{len(self.nodes) + 1}"
        chosen = ["-n", f"{name}@here", "-P", pool, "-c", str(concurrency), *(["-Q", ",".join(queues)] if queues else [])]
        return self._begin(name, ["worker", "-l", "INFO", *WITHOUT_CHATTER, *chosen, *options], " ready.", settings)

    def beat(self) -> Node:
        """Begin a beat."""
        name = f"beat-{len(self.nodes) + 1}"
        return self._begin(name, ["beat", "-s", str(self.directory / name), "-l", "INFO"], "beat: Starting", {})

    def await_ready(self) -> None:
        for node in self.nodes:
            node.await_ready()

    def transaction(self) -> AbstractContextManager[Connection]:
        """A transaction of the application's."""
        return self.outbox.store.engine.begin()

    def enqueue(self, channel: str, count: int = 1, *, payload: Any = None, **fields: Any) -> list[str]:
        """Commit messages; returns their ids."""
        messages = [NewMessage(channel=channel, payload=payload, **fields) for _ in range(count)]
        with self.transaction() as transaction:
            return [queued.id for queued in self.outbox.enqueue_many(transaction, messages)]

    def relay(self) -> Mapping[str, int]:
        """One relay pass in the test's own process."""
        report = self.application.installation.relay.run_once(budget_s=10)
        return {"claimed": report.claimed, "redispatched": report.redispatched, "tasks": report.tasks}

    def statuses(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for channel in self.outbox.stats():
            counts.update({str(status): rows for status, rows in channel.by_status.items()})
        return counts

    def messages(self, ids: Sequence[str]) -> list[Message]:
        """The messages with these ids, in this order."""
        found = {message.id: message for message in self.outbox.list(limit=1_000_000)}
        return [found[message_id] for message_id in ids]

    def relay_until(self, **wanted: int) -> None:
        """Relay in the test's own process until these, and no others, are the counts by status."""

        def reached() -> bool:
            self.relay()
            return self.statuses() == wanted

        eventually(reached, lambda: f"{wanted}, and there are {dict(self.statuses())}")

    def await_statuses(self, **wanted: int) -> None:
        """Wait until these, and no others, are the counts by status."""
        eventually(lambda: self.statuses() == wanted, lambda: f"{wanted}, and there are {dict(self.statuses())}")

    def await_arrivals(self, message_id: str, count: int = 1, event: str = "began") -> None:
        eventually(
            lambda: len(self.ledger.arrivals(message_id, event)) >= count,
            lambda: f"{count} times {event!r} of {message_id} in {self.ledger.arrivals(message_id)}",
        )

    def was_sent_once(self, ids: Sequence[str]) -> None:
        """Each of the messages was delivered, arrived once and cost one attempt, and no outcome lost its lease."""
        counts = self.ledger.counts()
        assert {message_id: counts[message_id] for message_id in ids if counts[message_id] != 1} == {}
        wrong = [m for m in self.messages(ids) if (m.status, m.attempt_count) != ("delivered", 1)]
        assert wrong == []
        assert self.losses() == []
        assert self.outbox.store.violations(10) == []

    def losses(self) -> list[str]:
        """Lines of the logs that tell of an outcome that was not recorded."""
        return [line for node in self.nodes for line in node.log().splitlines() if "LeaseLost" in line]

    def logs(self) -> list[tuple[str, str]]:
        return [(node.name, node.log()) for node in self.nodes]

    def close(self) -> None:
        for node in reversed(self.nodes):
            node.close()
        self.outbox.close()

    def _begin(self, name: str, arguments: Sequence[str], ready: str, settings: Mapping[str, Any]) -> Node:
        node = Node(self._nursery, name, arguments, replace(self.settings, **settings).to_environment(), ready)
        self.nodes.append(node)
        return node
