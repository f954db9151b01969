"""One thing at a time, each done by a process of its own that may die of it: ``python -m tests.crash.hand``.

Reads lines of JSON (``do``, ``plans`` and what the deed needs), forks itself for each, and answers with the exit code: -9 when
that process was killed, 0 when it came to its end.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from outbox import NewMessage, Outbox
from outbox.legacy import import_directory, run
from outbox.lifecycle import Status
from outbox.store.records import MessageFilter
from tests.crash.application import Settings, create
from tests.crash.arming import Plans

ROOT = Path(__file__).parents[2]


class Hand:
    """The test's end of it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def does(self, deed: str, plans: Path, **order: Any) -> int:
        """The exit code of the process that did it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"do": deed, "plans": str(plans), **order}), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate("")


def upgrade(url: str) -> None:
    Outbox(url).upgrade_schema()


def bring_over(url: str, directory: str, files_a_batch: int) -> None:
    """Import a file queue."""
    run.MOST_FILES = files_a_batch
    import_directory(Outbox(url), Path(directory))


def commit(settings: dict[str, Any], orders: list[dict[str, Any]]) -> None:
    """Commit orders and their messages in one transaction, and nudge, as the application does."""
    enqueue(create(Settings(**settings))[1], orders)


def enqueue(outbox: Outbox, orders: list[dict[str, Any]]) -> list[str]:
    """An order for each message, in the transaction of the message itself; the ids."""
    with Session(outbox.store.engine) as session, session.begin():
        queued = outbox.enqueue_many(session, [NewMessage(**order) for order in orders])
        for order, message in zip(orders, queued, strict=True):
            row = {"id": message.id, "name": order["payload"]["name"]}
            session.execute(text("insert into orders (id, name) values (:id, :name)"), row)
    return [message.id for message in queued]


def operate(settings: dict[str, Any], verb: str, status: str | None = None, **options: Any) -> None:
    """What an operator does: a method of the outbox by its name, on messages of that status where one is given."""
    where = {} if status is None else {"where": MessageFilter(status=Status(status))}
    getattr(create(Settings(**settings))[1], verb)(**options, **where)


DEEDS: dict[str, Callable[..., None]] = {"upgrade": upgrade, "import": bring_over, "commit": commit, "operate": operate}


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _do(order)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _do(order: dict[str, Any]) -> None:
    Plans(Path(order.pop("plans"))).obey()
    try:
        DEEDS[order.pop("do")](**order)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
