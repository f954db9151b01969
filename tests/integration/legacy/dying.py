"""A process that imports and is killed at a chosen step: `python -m tests.integration.legacy.dying`.

Reads lines of JSON (`url`, `directory`, `step`), and for each starts a process of its own that imports the directory and gets
SIGKILL at that step: before a statement, before or after a commit, before or after a file is moved. Answers with the exit
code: -9 when it was killed, 0 when the import had no such step.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import event

from outbox import Outbox
from outbox.legacy import import_directory, run

FILES_A_BATCH = 3


class Steps:
    """Counts down to the end of this process."""

    def __init__(self, left: int) -> None:
        self._left = left

    def step(self, *_arguments: Any, **_options: Any) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, action: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*arguments: Any, **options: Any) -> Any:
            self.step()
            answer = action(*arguments, **options)
            self.step()
            return answer

        return stepping


def die_at(step: int, url: str, directory: Path) -> None:
    steps = Steps(step)
    outbox = Outbox(url)
    engine = outbox.store.engine
    event.listen(engine, "before_cursor_execute", steps.step)
    engine.dialect.do_commit = steps.around(engine.dialect.do_commit)  # type: ignore[method-assign]
    os.rename = steps.around(os.rename)
    run.MOST_FILES = FILES_A_BATCH
    import_directory(outbox, directory)


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            die_at(order["step"], order["url"], Path(order["directory"]))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
