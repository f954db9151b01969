"""Recording outcomes until they stand: a settle that the database refuses is remembered and settled again, never sent again."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from outbox.errors import OutboxError
from outbox.lifecycle import Status
from outbox.message import Claim, Message
from outbox.store.protocol import Store
from outbox.store.records import Settled, Settlement, Taker
from outbox.telemetry import AttemptFinished, LeaseLost, SettleDelayed, Telemetry

_log = logging.getLogger("outbox")

_Result = TypeVar("_Result")

PAUSES_S = (0.1, 0.3, 1.0, 3.0)
"""Between the tries to record, beside the time for which the database itself waits for a lock."""

RETRY_S = 2.0
"""Between the tries to record what was kept. A rescued row is due again after five seconds at the earliest."""

_NOBODY = Taker("", "", 0)


@dataclass(frozen=True, slots=True)
class Ended:
    """An outcome on its way into the database, and what to tell once it stands."""

    settlement: Settlement
    event: AttemptFinished


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one write did. With a ``failure`` nothing was taken, and what could not be recorded is kept."""

    taken: Sequence[Message] = ()
    ids: frozenset[str] = frozenset()
    unblocked: bool = False
    before_take: float = 0.0
    """Monotonic seconds: the rows were taken after this moment, so their leases last at least as long from here."""
    failure: Exception | None = None


class Recorder:
    """Writes the outcomes of one process, and keeps those that could not be written. Safe to share between threads."""

    def __init__(
        self, store: Store, telemetry: Telemetry, *, pauses_s: Sequence[float] = PAUSES_S,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._store = store
        self._telemetry = telemetry
        self._pauses_s = pauses_s
        self._pause = pause
        self._kept: list[Ended] = []
        self._late: list[threading.Thread] = []
        self._retrier: threading.Thread | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()

    def record_and_take(self, ended: Sequence[Ended], claims: Sequence[Claim], taker: Taker) -> Recorded:
        """Settle, what was kept before too, and in the same transaction take: who holds an outcome begins nothing new.

        Tries again for a while where the database as a whole refuses: locked, away, read-only.
        """
        ended = [*self._kept_so_far(), *ended]
        try:
            for pause_s in (*self._pauses_s, None):
                try:
                    return self._write(ended, claims, taker)
                except OutboxError as error:
                    if pause_s is None:
                        self._keep(ended, error)
                        return Recorded(failure=error)
                    self._pause(pause_s)
        except BaseException:
            self._kept_for_later(ended)
            raise
        raise AssertionError("unreachable: the last round returns")

    def record(self, ended: Sequence[Ended]) -> Recorded:
        """Settle, and take nothing."""
        return self.record_and_take(ended, (), _NOBODY)

    def record_late(self, ended: Sequence[Ended]) -> None:
        """Settle what ended after its task was over, in a thread of its own: the caller may be the event loop."""
        thread = threading.Thread(target=self.record, args=(ended,), name="outbox-late", daemon=True)
        with self._lock:
            self._late = [thread, *(other for other in self._late if other.is_alive())]
            thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Wait for what is being recorded, and settle what was kept. Raises what the database still refuses it with."""
        self._closing.set()
        try:
            with self._lock:
                threads = [*self._late, *([self._retrier] if self._retrier else [])]
            for thread in threads:
                thread.join(timeout_s)
            recorded = self.record(()) if self._kept else Recorded()
        finally:
            self._closing.clear()
        if recorded.failure is not None:
            raise recorded.failure

    def attempt(self, channel: str, write: Callable[[], _Result]) -> _Result | None:
        """Run a write that may fail without harm, because time makes up for it; ``None`` where it failed, which is told."""
        try:
            return write()
        except Exception as error:
            self._telemetry.emit(SettleDelayed(channel, 0, str(error)))
            return None

    def _write(self, ended: Sequence[Ended], claims: Sequence[Claim], taker: Taker) -> Recorded:
        before_take = time.monotonic()
        settlements = [end.settlement for end in ended]
        failure: Exception | None = None
        try:
            settled, taken = self._store.settle_and_take(settlements, claims, taker)
        except OutboxError:
            raise
        except Exception:
            # Something in one of the outcomes or claims cannot be stored. Its neighbours must not become unknown for it.
            settled = self._settle_one_by_one(settlements)
            taken, failure = self._take_alone(claims, taker)
        ids = settled.recorded | self._recorded_before(ended, settled)
        self._keep_unrecorded([end for end in ended if end.settlement.id not in ids | settled.lost])
        for end in ended:
            if end.settlement.id in ids:
                self._telemetry.emit(end.event)
        return Recorded(taken, ids, settled.unblocked, before_take, failure)

    def _take_alone(self, claims: Sequence[Claim], taker: Taker) -> tuple[list[Message], Exception | None]:
        try:
            return self._store.take(claims, taker) if claims else [], None
        except Exception as error:
            return [], error

    def _settle_one_by_one(self, settlements: Sequence[Settlement]) -> Settled:
        """Each by itself, at last without the texts that the database refuses; what it refuses even then is in neither set."""
        recorded: set[str] = set()
        lost: set[str] = set()
        unblocked = False
        for settlement in settlements:
            one = self._settle_alone(settlement)
            recorded |= one.recorded
            lost |= one.lost
            unblocked |= one.unblocked
        return Settled(frozenset(recorded), frozenset(lost), unblocked)

    def _settle_alone(self, settlement: Settlement) -> Settled:
        for form in (settlement, _bare(settlement)):
            try:
                return self._store.settle([form])
            except OutboxError:
                raise
            except Exception as error:
                _log.warning("the database refuses an outcome of message %s: %s", settlement.id, type(error).__name__)
        return Settled()

    def _recorded_before(self, ended: Sequence[Ended], settled: Settled) -> frozenset[str]:
        """Of the ids whose settle matched no row, those that stand as wanted: recorded by an earlier, ambiguous commit.

        The others' leases are somebody else's by now.
        """
        missed = [end for end in ended if end.settlement.id in settled.lost]
        if not missed:
            return frozenset()
        try:
            standing = self._store.already_settled([end.settlement for end in missed])
        except Exception as error:
            self._keep(missed, error)  # whatever was taken stays taken: ask again next time
            return frozenset()
        for end in missed:
            if end.settlement.id not in standing:
                self._telemetry.emit(
                    LeaseLost(end.settlement.id, end.event.channel, end.settlement.lease, end.settlement.outcome)
                )
        return standing

    def _keep_unrecorded(self, ended: Sequence[Ended]) -> None:
        self._keep(ended, OutboxError("the database refuses these outcomes in any form"))

    def _keep(self, ended: Sequence[Ended], error: Exception) -> None:
        self._kept_for_later(ended)
        for channel, count in Counter(end.event.channel for end in ended).items():
            self._telemetry.emit(SettleDelayed(channel, count, str(error)))

    def _kept_for_later(self, ended: Sequence[Ended]) -> None:
        with self._lock:
            self._kept.extend(ended)
            if self._kept and self._retrier is None and not self._closing.is_set():
                self._retrier = threading.Thread(target=self._retry, name="outbox-settle", daemon=True)
                self._retrier.start()

    def _retry(self) -> None:
        """Settle what was kept as soon as the database lets it: sooner than a rescued row is due again."""
        while not self._closing.wait(RETRY_S):
            kept = self._kept_so_far()
            try:
                self._write(kept, (), _NOBODY)
            except Exception:  # as it is told already
                self._kept_for_later(kept)
            with self._lock:
                if not self._kept:
                    self._retrier = None
                    return
        with self._lock:
            self._retrier = None

    def _kept_so_far(self) -> list[Ended]:
        with self._lock:
            kept, self._kept = self._kept, []
        return kept


def _bare(settlement: Settlement) -> Settlement:
    """The outcome without texts that came from outside."""
    verdict = settlement.verdict
    if verdict.status is not Status.DELIVERED:
        verdict = replace(verdict, error="the error's text could not be stored", reason=None)
    return replace(settlement, verdict=verdict, receipt=None)
