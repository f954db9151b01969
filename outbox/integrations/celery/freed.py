"""When what a channel's tasks have brought to an end is worth a claim in its place."""

import time

_PAUSE_S = 0.25
"""Between two claims in the place of a few messages that have left an allowance."""


class Freed:
    """What the tasks of one process free of a channel's allowance, until it is worth a claim."""

    def __init__(self, enough: int) -> None:
        self._enough = enough
        self._count = 0
        self._since = time.monotonic()

    def is_enough(self, count: int) -> bool:
        """Whether, with ``count`` more, it is: there are many by now, or, among many processes, some time has passed."""
        now = time.monotonic()
        self._count += count
        if self._count < self._enough and now - self._since < _PAUSE_S:
            return False
        self._count, self._since = 0, now
        return True
