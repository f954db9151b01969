"""B, the claim alone: how long the relay's look for work takes beside a large table."""

import time
from collections.abc import Iterator, Sequence

from benchmarks.lab import Lab
from benchmarks.measuring import Figures, Target, in_turns
from benchmarks.rows import inline
from outbox import NewMessage, Outbox
from outbox.batching import Batch
from outbox.policy.destination import Limits
from outbox.relay import Relay
from outbox.store.records import Lane

AT_ONCE = 100
HOUR_S = 3_600.0


def beside_a_million_rows(lab: Lab) -> Iterator[Figures]:
    """B.claim.DB: claims a second beside delivered rows and as many future rows as due ones, against an empty table."""
    beside, claims = lab.sized(1_000_000, 50_000), lab.sized(40, 10)
    for kind in ("sqlite", "postgresql"):
        empty, full = inline.opened(lab, kind), inline.opened(lab, kind)
        inline._fill(full, kind, beside)
        _enqueue(empty, AT_ONCE, future=0)
        _enqueue(full, AT_ONCE, future=AT_ONCE)
        contenders = {
            "ours": lambda full=full: _rate(full, claims),
            "theirs": lambda empty=empty: _rate(empty, claims),
        }
        rates = in_turns(lab.rounds, contenders, lab.told)
        what = f"claims of {AT_ONCE} on {kind} beside {beside:,} delivered and as many future rows, against an empty table"
        yield Figures(f"B.claim.{kind}", what, "/s", rates["ours"], rates["theirs"], Target(at_least=0.9))
        empty.close()
        full.close()


def _enqueue(outbox: Outbox, count: int, *, future: int) -> None:
    later = [NewMessage(channel=inline.CHANNEL, delay=HOUR_S)] * future
    with outbox.store.transaction() as tx:
        outbox.enqueue_many(tx.connection, later + [NewMessage(channel=inline.CHANNEL)] * count)
    relayed: list[Batch] = []
    Relay(outbox.store, outbox.channels, Kept(relayed), outbox.telemetry, outbox.owner).run_once()  # it also stamps what is new
    outbox.store.release([claim for batch in relayed for claim in batch.claims])


class Kept:
    """A dispatcher that publishes nothing."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def dispatch(self, batches: Sequence[Batch]) -> None:
        self._batches += batches


def _rate(outbox: Outbox, times: int) -> float:
    """Every claim is given back, outside of what is timed, before the next."""
    lane, limits = Lane(inline.CHANNEL, 0, 0), Limits(max_in_flight=10**6)
    took = 0.0
    for _ in range(times):
        began = time.perf_counter()
        claimed = outbox.store.claim(lane, AT_ONCE, limits).claims
        took += time.perf_counter() - began
        assert len(claimed) == AT_ONCE
        outbox.store.release(claimed)
    return times / took
