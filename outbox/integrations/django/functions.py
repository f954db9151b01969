"""Channels that are functions of the project's, and may use the ORM."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

from outbox.channels.base import FunctionChannel
from outbox.message import Attempt, Message


class DjangoFunction(FunctionChannel):
    """A function as a channel. A plain one finds working ORM connections, as a view does at the begin of its request."""

    def __init__(self, name: str, function: Callable[[Message, Attempt], Any], **policy: Any) -> None:
        super().__init__(name, function if inspect.iscoroutinefunction(function) else _refreshing(function), **policy)


@contextmanager
def fresh_connections() -> Iterator[None]:
    """Give back connections that are broken or older than ``CONN_MAX_AGE``, before and after: sending threads live for long."""
    _close_old_connections()
    try:
        yield
    finally:
        _close_old_connections()


def _close_old_connections() -> None:
    """As Django does around a request; but a connection with an open block is that of a test which drains in its own thread."""
    for wrapper in connections.all(initialized_only=True):
        if not wrapper.in_atomic_block:
            wrapper.close_if_unusable_or_obsolete()


def _refreshing(function: Callable[[Message, Attempt], Any]) -> Callable[[Message, Attempt], Any]:
    def call(message: Message, attempt: Attempt) -> Any:
        with fresh_connections():
            return function(message, attempt)

    return call
