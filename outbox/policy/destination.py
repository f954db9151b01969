"""How much may go to a channel or destination now: rates, caps, pacing after an outage, and the breaker's terms."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

LATE_MS = 10_000
"""A row this long overdue, or tried before, belongs to a backlog, and is paced where the channel asks for it."""
CAP_RETRY_MS = 1_000
"""A row above its destination's cap is looked at again when one send of a second would have made room."""

_RATE = re.compile(r"\s*(\d+)\s*/\s*(s|min|h)\s*")
_PERIOD_S = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Rate:
    """``count`` messages in ``per_s`` seconds, as a token bucket that holds one second's worth, and at least one.

    ``spaced`` allows no burst: each message keeps its distance from the one before.
    """

    count: int
    per_s: float = 1.0
    spaced: bool = False

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.per_s < float("inf"):
            raise ValueError("a rate needs at least one message in a finite time above 0")

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read ``30/s``, ``100/min`` or ``5000/h``. Raises :class:`ValueError`."""
        match = _RATE.fullmatch(text)
        if match is None:
            raise ValueError(f"a rate looks like '30/s', '100/min' or '5000/h', not {text!r}")
        return cls(int(match[1]), _PERIOD_S[match[2]])

    @property
    def interval_ms(self) -> float:
        """Time from one message to the next at this rate."""
        return 1000 * self.per_s / self.count

    @property
    def burst(self) -> int:
        """Messages that may go at once after a pause."""
        return 1 if self.spaced else max(1, round(self.count / self.per_s))


@dataclass(frozen=True, slots=True)
class Breaker:
    """After ``failures`` in a row the destination is closed for ``open_s``, longer the longer it fails, then probed by one."""

    failures: int = 5
    open_s: float = 30.0
    longest_open_s: float = 600.0

    def __post_init__(self) -> None:
        if self.failures < 1 or not 0 < self.open_s <= self.longest_open_s < float("inf"):
            raise ValueError("a breaker needs at least one failure and finite times above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a claim has to respect for one channel. Moments are epoch milliseconds."""

    max_in_flight: int = 1000
    per_key: int = 100
    rate: Rate | None = None
    target_rate: Rate | None = None
    target_in_flight: int | None = None
    recovery_pace_ms: int = 0
    closed: frozenset[str] = frozenset()
    """Targets that are closed."""
    probed: frozenset[str] = frozenset()
    """Targets whose breaker is half open: one message may go and show."""
    permit_ms: int = 60_000
    """How long a probe's permit lasts."""

    @property
    def by_target(self) -> bool:
        """Whether rows must be told apart by target."""
        return bool(self.target_rate or self.target_in_flight or self.recovery_pace_ms)


class Candidate(Protocol):
    """A due row, as far as this policy looks at it."""

    seq: int
    target: str
    attempt_count: int
    next_attempt_at: int


@dataclass(slots=True)
class Admission:
    """Until when the rows that may not go are postponed, and each target's next free moment afterwards."""

    postponed: dict[int, int] = field(default_factory=dict)
    free_at: dict[str, float] = field(default_factory=dict)


def tokens(rate: Rate, free_at: float, now: float) -> int:
    """How many messages may go now, where ``free_at`` is the bucket's theoretical arrival time (GCRA)."""
    room_ms = now - max(free_at, now) + rate.burst * rate.interval_ms
    return max(0, math.floor(room_ms / rate.interval_ms + 1e-9))


def spend(rate: Rate, free_at: float, now: float, count: int) -> float:
    """The bucket's theoretical arrival time after ``count`` messages."""
    return max(free_at, now) + count * rate.interval_ms


def admit(
    rows: Sequence[Candidate], limits: Limits, *, now: float, free_at: Mapping[str, float], in_flight: Mapping[str, int]
) -> Admission:
    """Sort due rows by what their targets can take.

    The rows beyond are spread over the time that those before them need, so that each is met again about when it may go.
    """
    admission = Admission(free_at=dict(free_at))
    flying, excess = Counter(in_flight), Counter[str]()
    for row in rows:
        target = row.target
        rate = _rate_for(row, limits, now)
        capped = limits.target_in_flight is not None and flying[target] >= limits.target_in_flight
        paced = rate is not None and tokens(rate, admission.free_at.get(target, 0.0), now) < 1
        if not capped and not paced:
            flying[target] += 1
            if rate is not None:
                admission.free_at[target] = spend(rate, admission.free_at.get(target, 0.0), now, 1)
            continue
        excess[target] += 1
        admission.postponed[row.seq] = math.ceil(now + _wait_ms(excess[target], rate if paced else None, limits))
    return admission


def _rate_for(row: Candidate, limits: Limits, now: float) -> Rate | None:
    late = row.attempt_count > 0 or now - row.next_attempt_at > LATE_MS
    if late and limits.recovery_pace_ms:
        pace = Rate(1, limits.recovery_pace_ms / 1000, spaced=True)
        if limits.target_rate is None or limits.target_rate.interval_ms < pace.interval_ms:
            return pace
    return limits.target_rate


def _wait_ms(place: int, rate: Rate | None, limits: Limits) -> float:
    if rate is not None:
        return place * rate.interval_ms
    return CAP_RETRY_MS * math.ceil(place / (limits.target_in_flight or 1))


def shares(cap: int, priorities: Sequence[int]) -> dict[int, int]:
    """How much of a channel's allowance the messages of each priority may have, given those with due rows, highest first.

    The highest may have nine tenths of what it would have alone, for each other one that waits, and so on with what is left:
    a flood of urgent messages leaves room for the others, and a flood of others does not take up again what it frees.
    """
    shares: dict[int, int] = {}
    left = cap
    for others, priority in zip(range(len(priorities) - 1, -1, -1), priorities, strict=True):
        shares[priority] = max(1, math.ceil(left * 0.9**others))
        left -= shares[priority]
    return shares
