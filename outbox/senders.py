"""The sends of one process: ``async`` adapters on one event loop, plain ones on threads.

The delivery loop stays free meanwhile, so that it settles, extends leases and notices a send that never returns.
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import count

from outbox.channels.base import Channel
from outbox.crew import Crew, Run
from outbox.outcome import Delivered
from outbox.sending import GRACE_S, NOT_BEGUN, Train, send_async

_log = logging.getLogger("outbox")


class Senders:
    """The process's event loop and threads for sending, started when first needed. Once closed they begin nothing more."""

    def __init__(self) -> None:
        self._crew = Crew()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arriving: dict[int, Sequence[Train]] = {}
        """By a number, what no event loop has come to yet."""
        self._numbers = count(1)
        self._is_closed = False
        self._lock = threading.Lock()
        """Held by whoever hands something to the event loop: once ``close`` has had it, the loop may be gone."""

    def start(self, channel: Channel, trains: Sequence[Train]) -> Run:
        """Begin to send; returns at once. Trains that wait for a thread, if any, are in what it returns.

        After ``close`` they come back as not begun.
        """
        with self._lock:
            if not self._is_closed:
                return self._begin(channel, trains)
        for train in trains:
            train[0].give_up()
            train[0].done(train[0], NOT_BEGUN)
        return Run(())

    def help(self, run: Run) -> None:
        """Let the trains of a run that has stalled wait no longer."""
        self._crew.help(run)

    def leave_blocked_loop(self) -> None:
        """Where a send that never yields holds the event loop, have a new one for later sends and for those that still wait."""
        answered = threading.Event()
        with self._lock:
            loop = self._loop
            if loop is None:
                return
            loop.call_soon_threadsafe(answered.set)
        if not answered.wait(GRACE_S):
            with self._lock:
                if self._loop is loop:
                    self._loop = None
                    self._hand_on()

    def close(self, channels: Sequence[Channel], timeout_s: float = 5.0) -> None:
        """Let the channels give back their connections, and end the event loop and the threads that send nothing."""
        with self._lock:
            self._is_closed = True
            loop, self._loop = self._loop, None
        self._crew.disband()
        if loop is None and not channels:
            return
        loop = loop or _begun_loop()
        try:
            asyncio.run_coroutine_threadsafe(_close_all(channels), loop).result(timeout_s)
        except TimeoutError:
            _log.warning("the channels did not give back their connections within %g s", timeout_s)
        loop.call_soon_threadsafe(loop.stop)

    def _begin(self, channel: Channel, trains: Sequence[Train]) -> Run:
        if not channel.is_async:
            return self._crew.begin(channel.name, trains)
        self._loop = self._loop or _begun_loop()
        number = next(self._numbers)
        self._arriving[number] = trains
        self._loop.call_soon_threadsafe(self._spawn, number)
        return Run(())

    def _hand_on(self) -> None:
        if not self._arriving:
            return
        with suppress(RuntimeError):  # no room for another thread: the old loop may yet wake
            self._loop = _begun_loop()
            for number in self._arriving:
                self._loop.call_soon_threadsafe(self._spawn, number)

    def _spawn(self, number: int) -> None:
        """On an event loop; where that was blocked another may have come first."""
        with self._lock:
            trains = self._arriving.pop(number, ())
        loop = asyncio.get_running_loop()
        for train in trains:
            task = loop.create_task(_send_in_order(train))
            for job in train:
                job.task = task


def _begun_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    try:
        threading.Thread(target=_run, args=(loop,), name="outbox-send-loop", daemon=True).start()
    except RuntimeError:  # there is no room for another thread
        loop.close()
        raise
    return loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _close_all(channels: Sequence[Channel]) -> None:
    under_way = asyncio.all_tasks() - {asyncio.current_task()}
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, *map(_close, channels), return_exceptions=True)


async def _close(channel: Channel) -> None:
    try:
        await channel.aclose()
    except Exception:
        _log.exception("channel %s did not give back its connections", channel.name)


async def _send_in_order(train: Train) -> None:
    """Up to the first that is not delivered; those behind it are left to whoever hears of it."""
    for job in train:
        outcome = await send_async(job)
        job.done(job, outcome)
        if not isinstance(outcome, Delivered):
            break
