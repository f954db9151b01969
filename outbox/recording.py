"""Recording outcomes until they stand: a settle that the database refuses is remembered and settled again, never sent again."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from outbox.errors import DatabaseUnavailable, OutboxError
from outbox.keeping import Ended, Kept
from outbox.lifecycle import Status
from outbox.message import Claim, Message
from outbox.store.protocol import Store
from outbox.store.records import Settled, Settlement, Taker
from outbox.telemetry import LeaseLost, SettleDelayed, Telemetry

_log = logging.getLogger("outbox")

_Result = TypeVar("_Result")

PAUSES_S = (0.1, 0.3, 1.0, 3.0)
"""Between the tries to record, beside the time for which the database itself waits for a lock."""

END_S = 10.0
"""For so long a process that ends has the database asked to record what is kept. Container engines grant ten seconds, and the
lease of a send that took its whole timeout lasts ten seconds longer: later, its row is somebody else's."""

_NOBODY = Taker("", "", 0)


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
        self._kept = Kept(self._record_kept)
        self._refusal: Exception | None = None
        """What the database has refused an outcome with, when it last did."""

    def record_and_take(self, ended: Sequence[Ended], claims: Sequence[Claim], taker: Taker) -> Recorded:
        """Settle, what was kept before too, and in the same transaction take: who holds an outcome begins nothing new.

        Tries again for a while where the database as a whole refuses: locked, away, read-only.
        """
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
            self._kept.add(ended)
            raise
        raise AssertionError("unreachable: the last round returns")

    def record(self, ended: Sequence[Ended]) -> Recorded:
        """Settle, and take nothing."""
        return self.record_and_take(ended, (), _NOBODY)

    def record_late(self, ended: Sequence[Ended]) -> None:
        """Have settled what ended after its task was over, in another thread: the caller may be the event loop."""
        self._kept.add(ended, is_urgent=True)

    def close(self, timeout_s: float = END_S) -> None:
        """Have settled what is kept, in so many seconds at the most. Raises what the database still refuses it with."""
        if not self._kept.wait(timeout_s):
            raise self._refusal or DatabaseUnavailable(f"the database has not recorded what was sent within {timeout_s:g} s")

    def attempt(self, channel: str, write: Callable[[], _Result]) -> _Result | None:
        """Run a write that may fail without harm, because time makes up for it; ``None`` where it failed, which is told."""
        try:
            return write()
        except Exception as error:
            self._telemetry.emit(SettleDelayed(channel, 0, str(error)))
            return None

    def _write(self, ended: Sequence[Ended], claims: Sequence[Claim], taker: Taker) -> Recorded:
        """One try, and what is kept is in it even while another thread writes that: nothing may be taken before it stands.

        Whoever comes second finds that the lease has been used; what became of an outcome is told by whoever removes it.
        """
        before_take = time.monotonic()
        kept = self._kept.all()
        settled, taken, failure = self._settle_and_take([*kept, *ended], claims, taker)
        settled, refusal = self._read_again([*kept, *ended], settled)
        over = settled.recorded | settled.lost
        if refused := [end for end in ended if end.settlement.id not in over]:
            self._keep(refused, refusal)
        ended = [end for end in ended if end.settlement.id in over]
        for end in (*self._kept.remove(end for end in kept if end.settlement.id in over), *ended):
            self._tell(end, is_lost=end.settlement.id not in settled.recorded)
        return Recorded(taken, settled.recorded, settled.unblocked, before_take, failure)

    def _settle_and_take(
        self, ended: Sequence[Ended], claims: Sequence[Claim], taker: Taker
    ) -> tuple[Settled, Sequence[Message], Exception | None]:
        settlements = [end.settlement for end in ended]
        try:
            return *self._store.settle_and_take(settlements, claims, taker), None
        except OutboxError:
            raise
        except Exception:
            # Something in one of the outcomes or claims cannot be stored. Its neighbours must not become unknown for it.
            settled = self._settle_one_by_one(settlements)
            return settled, *self._take_alone(claims, taker)

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

    def _read_again(self, ended: Sequence[Ended], settled: Settled) -> tuple[Settled, Exception]:
        """Of the ids whose settle matched no row, those that stand as wanted are recorded: by an earlier, ambiguous commit, or
        by another thread. The others' leases are somebody else's by now.

        Where the database does not say, or refuses an outcome in any form, its id is in neither set; the error says why.
        """
        refusal: Exception = OutboxError("the database refuses these outcomes in any form")
        if not settled.lost:
            return settled, refusal
        try:
            missed = [end.settlement for end in ended if end.settlement.id in settled.lost]
            standing = self._store.already_settled(missed)
        except Exception as error:  # whatever was taken stays taken: ask again next time
            return replace(settled, lost=frozenset()), error
        return replace(settled, recorded=settled.recorded | standing, lost=settled.lost - standing), refusal

    def _tell(self, end: Ended, *, is_lost: bool) -> None:
        this = end.settlement
        self._telemetry.emit(LeaseLost(this.id, end.event.channel, this.lease, this.outcome) if is_lost else end.event)

    def _record_kept(self) -> None:
        try:
            self._write((), (), _NOBODY)
        except Exception as error:
            self._keep((), error)

    def _keep(self, ended: Sequence[Ended], refusal: Exception) -> None:
        self._refusal = refusal
        self._kept.add(ended)
        for channel, count in Counter(end.event.channel for end in self._kept.untold()).items():
            self._telemetry.emit(SettleDelayed(channel, count, str(refusal)))


def _bare(settlement: Settlement) -> Settlement:
    """The outcome without texts that came from outside."""
    verdict = settlement.verdict
    if verdict.status is not Status.DELIVERED:
        verdict = replace(verdict, error="the error's text could not be stored", reason=None)
    return replace(settlement, verdict=verdict, receipt=None)
