"""What a soak must show beside its ledger: nothing that grows with time. It is pure.

A run is divided: in storms the database is struck too; there is a quiet part, a reader holds the database's past, which must go
soon after it, and at last comes what is compared with the quiet part. Shorter runs than :data:`SHORTEST_MIN` are judged by
their ledger alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

SHORTEST_MIN = 2.5
QUIET = (0.25, 0.4)
PINNED = (0.4, 0.55)
LET_GO = (0.6, 0.65)
LATE = (0.75, 1.0)
STORMS = ((0.02, 0.22), (0.65, 0.73))
"""Parts of the run, by the share of its length."""


@dataclass(frozen=True)
class Sample:
    """One look at the processes that are spared, and at the database."""

    at: float
    """Seconds since the beginning."""
    memory_mb: Mapping[str, float]
    """Resident, by node, its pool included."""
    handles: Mapping[str, int]
    """Open file descriptors, likewise."""
    wal_mb: float
    past: float
    """What the database keeps for the sake of old readers: MB of WAL on SQLite, dead rows on PostgreSQL."""
    backlog: int


@dataclass(frozen=True)
class Limits:
    """How much more than in the quiet part is not growth yet."""

    memory: float = 1.1
    memory_mb: float = 8.0
    handles: int = 10
    latency: float = 2.0
    latency_s: float = 0.5
    tail: float = 2.0
    tail_s: float = 5.0
    """Of the slowest hundredth, which a single standstill of a few seconds decides."""
    past: float = 2.0
    past_more: float = 4.0
    wal_mb: float = 64.0
    """In all: what the database is told to keep at the most, and as much again while it lags behind."""


def judge(
    samples: Sequence[Sample], latencies: Sequence[tuple[float, float]], length_s: float, limits: Limits
) -> Sequence[str]:
    """Everything that grew. ``latencies``: when a message arrived (seconds since the beginning), and how long it took."""
    if length_s < 60 * SHORTEST_MIN:
        return []
    quiet, pinned, let_go, late = (_part(samples, part, length_s) for part in (QUIET, PINNED, LET_GO, LATE))
    if not (quiet and pinned and let_go and late):
        return ["unseen: a part of the run has no sample"]
    return [
        *_growing_processes(quiet, late, limits),
        *_kept_past(quiet, pinned, let_go, late, limits),
        *_long_log(late, limits),
        *_slower(latencies, length_s, limits),
    ]


def _growing_processes(quiet: Sequence[Sample], late: Sequence[Sample], limits: Limits) -> Iterator[str]:
    for node in quiet[0].memory_mb:
        before, after = (median(sample.memory_mb[node] for sample in part) for part in (quiet, late))
        if after > before * limits.memory + limits.memory_mb:
            yield f"memory: {node} grew from {before:.0f} to {after:.0f} MB"
        before, after = (median(sample.handles[node] for sample in part) for part in (quiet, late))
        if after > before + limits.handles:
            yield f"handles: those of {node} grew from {before:.0f} to {after:.0f}"


def _kept_past(
    quiet: Sequence[Sample], pinned: Sequence[Sample], let_go: Sequence[Sample], late: Sequence[Sample], limits: Limits
) -> Iterator[str]:
    """What an old reader held back must go when it has gone, before a storm makes PostgreSQL forget its counts; and it must
    have held something, or nothing is shown.
    """
    before, held = (max(sample.past for sample in part) for part in (quiet, pinned))
    after = max(median(sample.past for sample in part) for part in (let_go, late))
    allowed = before * limits.past + limits.past_more
    if held <= before:
        yield f"unpinned: with the reader open there was {held:.0f} of the past, without it {before:.0f}"
    if after > allowed:
        yield f"past: {before:.0f} before the reader, {held:.0f} with it, and still {after:.0f} long after it"


def _long_log(late: Sequence[Sample], limits: Limits) -> Iterator[str]:
    size = median(sample.wal_mb for sample in late)
    if size > limits.wal_mb:
        yield f"log: it takes {size:.0f} MB at the end, and {limits.wal_mb:.0f} are allowed"


def _slower(latencies: Sequence[tuple[float, float]], length_s: float, limits: Limits) -> Iterator[str]:
    before, after = ([took for at, took in latencies if _in(at, part, length_s)] for part in (QUIET, LATE))
    if not (before and after):
        yield "unseen: a part of the run has no arrival"
        return
    if median(after) > median(before) * limits.latency + limits.latency_s:
        yield f"latency: its median grew from {median(before):.2f} to {median(after):.2f} s"
    slowest_before, slowest_after = (_slowest(part) for part in (before, after))
    if slowest_after > slowest_before * limits.tail + limits.tail_s:
        yield f"tail: the slowest hundredth grew from {slowest_before:.2f} to {slowest_after:.2f} s"


def _part(samples: Sequence[Sample], part: tuple[float, float], length_s: float) -> Sequence[Sample]:
    return [sample for sample in samples if _in(sample.at, part, length_s)]


def _in(at: float, part: tuple[float, float], length_s: float) -> bool:
    return part[0] * length_s <= at < part[1] * length_s


def _slowest(seconds: Sequence[float]) -> float:
    return quantile(seconds, 0.99) or 0.0


def is_storm(at: float, length_s: float) -> bool:
    """Whether the database may be struck, that long after the beginning: nothing is judged then."""
    return any(_in(at, part, length_s) for part in STORMS)


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value below which that share lies; none of nothing."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else None


def worst(samples: Sequence[Sample], gauge: Callable[[Sample], float]) -> float:
    """The highest of a gauge; 0 where nobody looked."""
    return max(map(gauge, samples), default=0.0)
