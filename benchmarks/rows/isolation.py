"""isolation: what healthy messages notice of a channel that hangs, a destination that is down, and messages that fail."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sqlalchemy import delete

from benchmarks.applications import ours
from benchmarks.applications.settings import COUNTER
from benchmarks.lab import Lab
from benchmarks.measuring import Figures, Target, in_turns, percentile
from benchmarks.rows.latency import delays_ms
from benchmarks.rows.stacks import Ours, running_ours
from outbox import NewMessage
from outbox.store.records import MessageFilter

PACE_S = 0.02
HANGING = 200
HEALTHY = "healthy"

Companions = Callable[[str, int], Sequence[NewMessage]]
"""The messages that go with so many healthy ones of a channel; those of the channel itself are spread among them."""


@dataclass(frozen=True)
class Trouble:
    """Companions that are in trouble, and those of the run to compare with."""

    id: str
    what: str
    companions: Companions
    without: Companions = lambda _channel, _count: ()
    note: str = ""


def _hanging(sick: str) -> Companions:
    return lambda _channel, _count: [NewMessage(channel=sick, target=ours.BROKEN)] * HANGING


def _to_the_broken(channel: str, count: int) -> Sequence[NewMessage]:
    return [NewMessage(channel=channel, target=ours.BROKEN)] * (count // 4)


def _refused(share: float, payload: str = ours.REFUSED) -> Companions:
    """So many that they are that share of all."""
    return lambda channel, count: [NewMessage(channel=channel, payload=payload)] * round(count * share / (1 - share))


_SICK = (
    f"{HANGING} messages of another channel on the same node, whose other side never answers (timeout {ours.Sick.timeout:g} s,"
    " {})"
)
_AS_MANY = "theirs: as many messages, of which none fails"
TROUBLES = (
    Trouble("hanging", _SICK.format("max_in_flight as by default"), _hanging(ours.SICK)),
    Trouble("capped", _SICK.format("max_in_flight for one of the node's two tasks"), _hanging(ours.SICK_CAPPED)),
    Trouble("destination", "a quarter as many to one destination that is down", _to_the_broken),
    Trouble("fail10", "others, so that 1 of 10 fails", _refused(0.1), _refused(0.1, HEALTHY), _AS_MANY),
    Trouble("fail50", "others, so that 1 of 2 fails", _refused(0.5), _refused(0.5, HEALTHY), _AS_MANY),
)


def beside_the_sick(lab: Lab) -> Iterator[Figures]:
    """isolation.*: healthy messages a second, and p99 from their commit to their send, against the same without the trouble."""
    count, paced = lab.sized(15_000, 1_000), lab.sized(600, 150)
    with running_ours(lab, "sqlite") as stack:
        _rate(stack, [], 200)
        _p99_ms(stack, [], 20)
        for trouble in TROUBLES:
            rates = in_turns(lab.rounds, _contenders(stack, trouble, _rate, ours.GUARDED, count), lab.told)
            what = f"{count:,} healthy messages beside {trouble.what}"
            yield Figures(
                f"isolation.{trouble.id}", what, "/s", rates["ours"], rates["theirs"], Target(at_least=0.9), trouble.note
            )
            delays = in_turns(lab.rounds, _contenders(stack, trouble, _p99_ms, ours.TIMED, paced), lab.told)
            what = f"p99 from commit to send of healthy messages, {1 / PACE_S:g}/s, beside {trouble.what}"
            yield Figures(
                f"isolation.{trouble.id}.p99", what, "ms", delays["ours"], delays["theirs"], Target(at_most=1.1), trouble.note
            )


def _contenders(
    stack: Ours, trouble: Trouble, measure: Callable[[Ours, Sequence[NewMessage], int], float], channel: str, count: int
) -> dict[str, Callable[[], float]]:
    def measured(companions: Companions) -> float:
        figure = measure(stack, companions(channel, count), count)
        _recover(stack)
        return figure

    return {"ours": lambda: measured(trouble.companions), "theirs": lambda: measured(trouble.without)}


def _rate(stack: Ours, companions: Sequence[NewMessage], count: int) -> float:
    """Healthy messages a second, from the moment when the relay may see them until the last is sent."""
    counted = count + sum(message.payload == HEALTHY for message in companions)
    stack.load_mixed(
        [message for batch in _spread(companions, count) for message in (*batch, NewMessage(channel=ours.GUARDED))],
        ours.GUARDED,
    )
    started = time.perf_counter()
    stack.go(ours.GUARDED)
    stack.lab.wait(lambda: int(stack.redis.get(COUNTER) or 0) >= counted, f"{counted} sends")
    return count / (time.perf_counter() - started)


def _p99_ms(stack: Ours, companions: Sequence[NewMessage], count: int) -> float:
    """Of healthy messages at a pace; their companions come between them."""
    batches = iter(_spread(companions, count))

    def commit() -> tuple[str, float]:
        with stack.outbox.store.transaction() as tx:
            *_, healthy = stack.outbox.enqueue_many(tx.connection, [*next(batches), NewMessage(channel=ours.TIMED)])
        return healthy.id, time.time()

    return percentile(delays_ms(stack.lab, stack.redis, count, commit, PACE_S), 99)


def _spread(companions: Sequence[NewMessage], count: int) -> Sequence[Sequence[NewMessage]]:
    """Those that come before each of ``count`` messages; a channel that hangs has all of its own at once."""
    if companions and companions[0].channel in ours.SICK_CHANNELS:
        return [companions, *[()] * (count - 1)]
    ends = [len(companions) * number // count for number in range(count + 1)]
    return [companions[start:end] for start, end in pairwise(ends)]


def _recover(stack: Ours) -> None:
    """Nothing is left of the trouble, not even what a breaker remembers, or is told a moment after the last settle."""

    def is_over() -> bool:
        for channel in (ours.GUARDED, ours.TIMED, *ours.SICK_CHANNELS):
            stack.outbox.cancel(where=MessageFilter(channel=channel))
        return not stack.unsettled()

    def is_forgotten() -> bool:
        with stack.outbox.store.transaction() as tx:
            return tx.connection.execute(delete(stack.outbox.store.tables.gates)).rowcount == 0

    stack.lab.wait(is_over, "the end of the trouble", every_s=0.2)
    stack.lab.wait(is_forgotten, "the last failure to be counted", every_s=0.5)
