"""Runs tests on a copy of the project, each order in a process of its own: ``python -m tests.rules.runner``.

It has imported what every run needs, but nothing of the project, and forks itself; so a run costs what its tests cost. Reads
lines of JSON (``directory``, ``arguments`` for pytest, ``environment``, ``output``), and answers each when its run has ended.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

WARM = (
    "alembic.command", "celery.app.base", "click", "hypothesis", "psycopg", "psycopg.types.json", "pytest", "redis",
    "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite", "sqlalchemy.orm", "_pytest.junitxml",
    "_pytest.assertion.rewrite", "aiohttp", "kombu",
)  # fmt: skip


def main() -> None:
    for module in WARM:
        importlib.import_module(module)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _run(json.loads(line))
        os.waitpid(pid, 0)
        print("ended", flush=True)


def _run(order: dict[str, Any]) -> NoReturn:
    os.chdir(order["directory"])
    os.environ.update(order["environment"])
    sys.path.insert(0, order["directory"])
    for name in [name for name in sys.modules if name.partition(".")[0] in {"tests", "outbox"}]:
        del sys.modules[name]  # its own package, which led here
    output = os.open(Path(order["output"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    pytest = importlib.import_module("pytest")
    code = pytest.main(order["arguments"])
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
