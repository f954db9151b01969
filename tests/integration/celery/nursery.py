"""Starts ``celery`` processes quickly: a process that has imported everything, and forks itself for each order it reads.

A node's own work begins after the fork, as if it had been started from a shell; only the seconds of importing are saved.
Whatever it started ends with it, and it ends when its standard input does, however the tests end.
"""

import importlib
import json
import os
import signal
import sys
from typing import Any, NoReturn

from celery.bin.celery import main as celery

from tests.servers.keeper import process_tree

WARM = (
    "celery.apps.beat", "celery.apps.worker", "celery.concurrency.prefork", "celery.concurrency.thread",
    "celery.fixups.django", "celery.worker.consumer", "kombu.transport.pyamqp", "kombu.transport.redis",
    "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite", "tests.integration.celery.application",
)  # fmt: skip


def main() -> None:
    """Answer each order, a line of JSON, with the process id of the node."""
    for module in (*WARM, *sys.argv[1:]):
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the nodes, so none stays a zombie
    born: list[int] = []
    for order in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become_a_node(json.loads(order))
        born.append(pid)
        print(pid, flush=True)
    for process in (process for pid in born for process in process_tree(pid)):
        process.kill()


def _become_a_node(order: dict[str, Any]) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(order["directory"])
    os.environ.update(order["environment"])
    log = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)
    sys.argv = ["celery", *order["arguments"]]
    sys.exit(celery())


if __name__ == "__main__":
    main()
