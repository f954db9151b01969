"""An application's own SQLite engine in the queue in which the outbox's writers stand."""

import re
from typing import Any

from sqlalchemy import Connection, Engine, event

from outbox.errors import ConfigurationError
from outbox.store.write_queue import QueuedConnection

_WRITES = re.compile(r"\s*(insert|update|delete|replace|begin\s+(immediate|exclusive))\b", re.IGNORECASE)


def queue_writers(engine: Engine) -> None:
    """Let the transactions of an application's own SQLite engine take turns at writing with each other and with the outbox.

    SQLite has no queue for its write lock: who finds it taken sleeps for up to 100 ms and asks again, while those who come by
    at the right moment have it. A transaction joins the queue before its first write and leaves it when it ends; one that only
    reads never waits. Call this before the engine connects.

    :raises outbox.errors.ConfigurationError: the engine is not one of SQLite, or an asynchronous one.
    """
    if engine.dialect.name != "sqlite":
        raise ConfigurationError(f"only SQLite's writers need a queue, and this engine leads to {engine.dialect.name}")
    if engine.dialect.is_async:
        raise ConfigurationError("an asynchronous engine cannot queue: whoever waits would hold up the event loop")
    event.listen(engine, "do_connect", _connect_queued)
    event.listen(engine, "before_cursor_execute", _enter)


def _connect_queued(_dialect: Any, _record: Any, _arguments: Any, options: dict[str, Any]) -> None:
    options.setdefault("factory", QueuedConnection)


def _enter(connection: Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
    driver: object = connection.connection.dbapi_connection
    if isinstance(driver, QueuedConnection) and _WRITES.match(statement):
        driver.enter_queue()
