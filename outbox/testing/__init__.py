"""For the tests of applications and of channels: time that stands still, an outbox in memory, what was enqueued, what was sent.

The pytest fixtures made of this are in :mod:`outbox.pytest_plugin`; the conformance kit for channels, which needs pytest, is
:mod:`outbox.testing.conformance`.
"""

from outbox.testing.asserting import assert_enqueued, assert_nothing_enqueued, enqueued
from outbox.testing.clock import FakeClock
from outbox.testing.databases import sqlite_in_memory
from outbox.testing.passing import run_until_quiet
from outbox.testing.recording import Recorder, Recording, recording

__all__ = [
    "FakeClock",
    "Recorder",
    "Recording",
    "assert_enqueued",
    "assert_nothing_enqueued",
    "enqueued",
    "recording",
    "run_until_quiet",
    "sqlite_in_memory",
]
