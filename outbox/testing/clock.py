"""Time that passes when the test says so."""

from datetime import timedelta

START_MS = 1_800_000_000_000
"""2027-01-15T08:00:00Z."""


class FakeClock:
    """A clock that stands still until it is told to move. ``now`` is in epoch milliseconds.

    ``Outbox(…, clock=clock)`` lives by it, on PostgreSQL too.
    """

    def __init__(self, now: int = START_MS) -> None:
        self.now = now

    def now_ms(self) -> int:
        """The present moment, in milliseconds since 1970-01-01T00:00:00Z."""
        return self.now

    def advance(self, milliseconds: int = 0, **span: float) -> None:
        """Let time pass: so many milliseconds, or ``seconds=``, ``minutes=``, ``hours=`` … as ``timedelta`` names them."""
        self.now += milliseconds + timedelta(**span) // timedelta(milliseconds=1)
