"""Named moments at which a process can die, for tests that kill it there. In production nobody listens, and nothing happens.

Every verb of the store that writes comes to two of them, ``<verb>.before_commit`` and ``<verb>.committed``. The others are
named where they lie.
"""

from collections.abc import Callable

Listener = Callable[[str], None]

_listener: Listener | None = None


def reach(step: str, moment: str) -> None:
    """This process has come to ``<step>.<moment>``. Whatever the listener raises, the moment raises."""
    if _listener is not None:
        _listener(f"{step}.{moment}")


def listen(listener: Listener | None) -> None:
    """Let ``listener`` hear of every checkpoint that this process, and those forked from it, come to; ``None``: nobody."""
    global _listener  # noqa: PLW0603 - one for the process: the moments are all over it
    _listener = listener
