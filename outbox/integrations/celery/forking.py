"""What a process may not go on using once it has been forked from another: threads, connections, locks that nobody opens."""

import os
from collections.abc import Callable
from weakref import WeakMethod


def after_fork(forget: Callable[[], None]) -> None:
    """Call a bound method in every process forked from this one, as long as its object is alive."""
    method = WeakMethod(forget)

    def call() -> None:
        alive = method()
        if alive is not None:
            alive()

    os.register_at_fork(after_in_child=call)
