"""For tests of applications that enqueue: inside of ``TestCase``, where nothing is ever committed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from outbox.channels.base import Channel
from outbox.crew import Run, send_in_order
from outbox.integrations.django import borrowing, process
from outbox.message import Message
from outbox.senders import Senders
from outbox.sending import Train
from outbox.store.records import MessageFilter
from outbox.store.sqlstore import SQLStore

_MOST = 10_000


class OutboxTestCaseMixin:
    """What was enqueued, and its delivery, in the transaction that the test runs in.

    ``class OrderTests(OutboxTestCaseMixin, TestCase)``. Works in ``TransactionTestCase`` as well.
    """

    def enqueued(self, channel: str | None = None, **wanted: Any) -> list[Message]:
        """The messages in the outbox, oldest first, whose attributes are as ``wanted``: ``target="…", payload={…}``."""
        found = self._store().list_messages(MessageFilter(channel=channel), _MOST)
        return [message for message in reversed(found) if _is(message, wanted)]

    @contextmanager
    def captured(self, channel: str | None = None) -> Iterator[list[Message]]:
        """The messages that the block enqueues: in the list when the block has ended."""
        before = {message.id for message in self.enqueued()}
        new: list[Message] = []
        yield new
        new += [message for message in self.enqueued(channel) if message.id not in before]

    def assertEnqueued(self, channel: str, *, count: int | None = None, **wanted: Any) -> list[Message]:  # noqa: N802 - as unittest
        """Fail unless messages like that are in the outbox: ``count`` of them, or at least one. Returns them."""
        found = self.enqueued(channel, **wanted)
        if len(found) == count or (count is None and found):
            return found
        there = [(message.channel, *(getattr(message, name) for name in wanted)) for message in self.enqueued()]
        raise AssertionError(
            f"{len(found)} messages like ({channel!r}, {wanted}) where {count or 'at least 1'} should be; there are: {there}"
        )

    def assertNothingEnqueued(self, channel: str | None = None) -> None:  # noqa: N802 - as unittest
        """Fail if there is a message in the outbox."""
        if found := self.enqueued(channel):
            raise AssertionError(f"{len(found)} messages where none should be, the first for {found[0].channel!r}")

    def drain(self) -> int:
        """Deliver what is due through the project's channels, here and now; returns how many were attempted.

        Plain channels run in the test's own thread, so that what they read and write is the test's data.
        """
        here = process.outbox()
        alias, table = here.configured.database, here.configured.table
        outbox = borrowing.outbox_on(alias, table, list(here.channels))
        outbox.delivery.senders = _SendersHere()
        return outbox.drain()

    def _store(self) -> SQLStore:
        configured = process.outbox().configured
        return borrowing.store_on(configured.database, configured.table)


class _SendersHere(Senders):
    """Plain sends one after another, in the thread that asks for them."""

    def start(self, channel: Channel, trains: Sequence[Train]) -> Run:
        if channel.is_async:
            return super().start(channel, trains)
        for train in trains:
            send_in_order(train)
        return Run(())


def _is(message: Message, wanted: dict[str, Any]) -> bool:
    return all(getattr(message, name) == value for name, value in wanted.items())
