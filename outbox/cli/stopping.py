"""SIGTERM and Ctrl-C: stop when what is under way has ended; a second one stops at once."""

import os
import select
import signal
import socket
import sys
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SAID = b"stopping when what is under way has ended; once more to stop at once\n"


class StopSignals:
    """While it is entered, the first signal is remembered and wakes :meth:`wait`; from then on signals do what they did.

    ``said`` is what the first one is answered with on standard error.
    """

    def __init__(self, said: bytes = _SAID) -> None:
        self._said = said
        self._requested = False
        self._before: dict[signal.Signals, Any] = {}
        # A handler that took a lock could wait for the code that it interrupts; a socket never does.
        self._woken, self._waker = socket.socketpair()

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._stop) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()
        self._woken.close()
        self._waker.close()

    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._requested

    def wait(self, seconds: float) -> bool:
        """Wait that long, or until a signal comes; returns :meth:`requested`."""
        if seconds > 0 and not self._requested:
            select.select([self._woken], [], [], seconds)
        return self._requested

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._requested = True
        self._waker.send(b".")
        self._restore()
        # Not through the stream: the signal may have come in the middle of a write to it.
        os.write(sys.stderr.fileno(), self._said)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
