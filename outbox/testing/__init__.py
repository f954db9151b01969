"""For the tests of applications and of channels: time that stands still, an outbox in memory, and what was enqueued and sent.

The pytest fixtures that are made of this are in :mod:`outbox.pytest_plugin`.
"""

from outbox.testing.clock import FakeClock

__all__ = ["FakeClock"]
