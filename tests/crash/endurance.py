"""What a soak must show beside its ledger: nothing that grows with time. It is pure.

A run is divided: it warms up, it has a quiet part, a reader holds the database's past, and at last comes what is compared with
the quiet part. Shorter runs than :data:`SHORTEST_MIN` are judged by their ledger alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

SHORTEST_MIN = 2.5
QUIET = (0.25, 0.4)
PINNED = (0.4, 0.55)
LATE = (0.75, 1.0)
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
    past: float = 2.0
    past_more: float = 4.0


def judge(
    samples: Sequence[Sample], latencies: Sequence[tuple[float, float]], length_s: float, limits: Limits
) -> Sequence[str]:
    """Everything that grew. ``latencies``: when a message arrived (seconds since the beginning), and how long it took."""
    if length_s < 60 * SHORTEST_MIN:
        return []
    quiet, pinned, late = (_part(samples, part, length_s) for part in (QUIET, PINNED, LATE))
    if not (quiet and pinned and late):
        return ["unseen: a part of the run has no sample"]
    return [
        *_growing_processes(quiet, late, limits),
        *_kept_past(quiet, pinned, late, limits),
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


def _kept_past(quiet: Sequence[Sample], pinned: Sequence[Sample], late: Sequence[Sample], limits: Limits) -> Iterator[str]:
    """What an old reader held back must go when it has gone; and it must have held something, or nothing is shown."""
    before, held = (max(sample.past for sample in part) for part in (quiet, pinned))
    after = min(sample.past for sample in late)
    allowed = before * limits.past + limits.past_more
    if held <= before:
        yield f"unpinned: with the reader open there was {held:.0f} of the past, without it {before:.0f}"
    if after > allowed:
        yield f"past: {before:.0f} before the reader, {held:.0f} with it, and still {after:.0f} long after it"


def _slower(latencies: Sequence[tuple[float, float]], length_s: float, limits: Limits) -> Iterator[str]:
    before, after = ([took for at, took in latencies if _in(at, part, length_s)] for part in (QUIET, LATE))
    if not (before and after):
        yield "unseen: a part of the run has no arrival"
    elif median(after) > median(before) * limits.latency + limits.latency_s:
        yield f"latency: its median grew from {median(before):.2f} to {median(after):.2f} s"


def _part(samples: Sequence[Sample], part: tuple[float, float], length_s: float) -> Sequence[Sample]:
    return [sample for sample in samples if _in(sample.at, part, length_s)]


def _in(at: float, part: tuple[float, float], length_s: float) -> bool:
    return part[0] * length_s <= at < part[1] * length_s


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value below which that share lies; none of nothing."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else None


def worst(samples: Sequence[Sample], gauge: Callable[[Sample], float]) -> float:
    """The highest of a gauge; 0 where nobody looked."""
    return max(map(gauge, samples), default=0.0)
