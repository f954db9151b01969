"""The ``console`` channel: prints each message, for trying things out."""

import sys
from typing import Any, TextIO

from outbox.channels.base import Channel
from outbox.message import Attempt, Message, Receipt


class Console(Channel):
    """Writes one line for each message to standard output, or to ``stream``."""

    name = "console"
    target_required = False

    def __init__(self, name: str | None = None, *, stream: TextIO | None = None, **policy: Any) -> None:
        super().__init__(name, **policy)
        self._stream = stream

    def send_final(self, message: Message, attempt: Attempt) -> Receipt:
        print(f"{message.channel} → {message.target or '-'} [{message.id}, attempt {attempt.number}] {message.payload!r}",
              file=self._stream or sys.stdout, flush=True)  # fmt: skip
        return Receipt()
