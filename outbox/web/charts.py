"""Rates and latencies over time: tallies in even steps, and the geometry of their charts, which the templates draw as SVG."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median

from outbox.lifecycle import Status
from outbox.outbox import Outbox
from outbox.store.records import Tally

WIDTH, HEIGHT = 600, 120
"""Size of the plot in units of the drawing."""
_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_HIGHEST_PEAK = 10
"""One message that waited for an operator flattens no curve: a peak that is so many times the usual latency is cut off."""
_TIMES_MS = (
    *(digit * 10**power for power in range(4) for digit in (1, 2, 5)), 10_000, 20_000, 30_000,
    *(minutes * _MINUTE_MS for minutes in (1, 2, 5, 10, 20, 30)), *(hours * _HOUR_MS for hours in (1, 2, 5, 12)),
    *(days * 24 * _HOUR_MS for days in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)),
)  # fmt: skip
"""Times that are easy to read on an axis."""


class Span(Enum):
    """How far back the charts look, and the step in which they do: about the same number of steps each."""

    HOUR = ("1h", "hour", _HOUR_MS, "minute", _MINUTE_MS)
    SIX_HOURS = ("6h", "6 hours", 6 * _HOUR_MS, "5 minutes", 5 * _MINUTE_MS)
    DAY = ("24h", "24 hours", 24 * _HOUR_MS, "20 minutes", 20 * _MINUTE_MS)
    WEEK = ("7d", "7 days", 7 * 24 * _HOUR_MS, "2 hours", 2 * _HOUR_MS)

    def __init__(self, key: str, words: str, length_ms: int, step_words: str, step_ms: int) -> None:
        self.key = key
        self.words = words
        self.length_ms = length_ms
        self.step_words = step_words
        self.step_ms = step_ms


@dataclass(frozen=True, slots=True)
class Step:
    """What ended in one step of time."""

    start_ms: int
    delivered: int = 0
    failed: int = 0
    other: int = 0
    """Expired or cancelled."""
    latency_sum_ms: int = 0
    latency_max_ms: int = 0
    """Of what was delivered, from the moment at which it was first due."""

    @property
    def total(self) -> int:
        """All that ended."""
        return self.delivered + self.failed + self.other

    @property
    def latency_ms(self) -> float | None:
        """How long a delivery took on average."""
        return self.latency_sum_ms / self.delivered if self.delivered else None


@dataclass(frozen=True, slots=True)
class Series:
    """The steps of a span, the one under way last."""

    span: Span
    steps: Sequence[Step]

    @property
    def delivered(self) -> int:
        """What was delivered in all."""
        return sum(step.delivered for step in self.steps)

    @property
    def failed(self) -> int:
        """What failed for good in all."""
        return sum(step.failed for step in self.steps)

    @property
    def latency_ms(self) -> float | None:
        """How long a delivery took on average over all."""
        return sum(step.latency_sum_ms for step in self.steps) / self.delivered if self.delivered else None


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle of a stacked bar, for the template's class of that name."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    step: Step


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing of ``WIDTH`` by ``HEIGHT`` whose vertical axis ends at ``top``."""

    top: float
    bars: Sequence[Bar] = ()
    lines: Sequence[tuple[str, str]] = ()
    """Name and path of each line."""


def series(outbox: Outbox, span: Span, channel: str | None = None) -> Series:
    """What ended within the span, in even steps, of all channels or of one."""
    now_ms = outbox.store.now_ms()
    last = now_ms - now_ms % span.step_ms
    first = last - span.length_ms + span.step_ms
    by_start: dict[int, list[Tally]] = {}
    for tally in outbox.store.tallies(first, span.step_ms):
        if channel in (None, tally.channel):
            by_start.setdefault(tally.start_ms, []).append(tally)
    return Series(span, [_step(start, by_start.get(start, ())) for start in range(first, last + 1, span.step_ms)])


def rate_chart(of: Series) -> Chart:
    """Stacked bars: delivered below, then what failed, then what was withdrawn or expired."""
    top = _round_up(max((step.total for step in of.steps), default=0))
    width = WIDTH / len(of.steps)
    bars: list[Bar] = []
    for number, step in enumerate(of.steps):
        base = float(HEIGHT)
        for kind, count in (("delivered", step.delivered), ("failed", step.failed), ("other", step.other)):
            if count:
                height = max(1.0, count / top * HEIGHT)
                base -= height
                bars.append(Bar(kind, number * width, base, max(1.0, width - 1), height, step))
    return Chart(top, bars)


def latency_chart(of: Series) -> Chart:
    """The average and the longest latency as lines, broken where nothing was delivered."""
    usual_ms = median([step.latency_ms for step in of.steps if step.latency_ms is not None] or [0])
    top = _round_up_time(min(max(step.latency_max_ms for step in of.steps), usual_ms * _HIGHEST_PEAK))
    longest = _path(of.steps, top, lambda step: step.latency_max_ms if step.delivered else None)
    return Chart(top, lines=(("longest", longest), ("average", _path(of.steps, top, lambda step: step.latency_ms))))


def _step(start_ms: int, tallies: Sequence[Tally]) -> Step:
    def count(*outcomes: Status) -> int:
        return sum(tally.messages for tally in tallies if tally.outcome in outcomes)

    delivered = [tally for tally in tallies if tally.outcome is Status.DELIVERED]
    return Step(
        start_ms,
        count(Status.DELIVERED),
        count(Status.FAILED_TERMINAL),
        count(Status.EXPIRED, Status.CANCELLED),
        sum(tally.latency_sum_ms for tally in delivered),
        max((tally.latency_max_ms for tally in delivered), default=0),
    )


def _path(steps: Sequence[Step], top: float, value_of: Callable[[Step], float | None]) -> str:
    """An SVG path through the middle of each step; the lines of no length are the dots at which round caps are drawn."""
    width = WIDTH / len(steps)
    path: list[str] = []
    connected = False
    for number, step in enumerate(steps):
        value = value_of(step)
        if value is not None:
            y = HEIGHT - min(value / top, 1.0) * HEIGHT
            path.append(f"{'L' if connected else 'M'}{(number + 0.5) * width:.1f} {y:.1f}h0")
        connected = value is not None
    return "".join(path)


def _round_up(value: float) -> float:
    """The next number that is easy to read: 1, 2 or 5 times a power of ten; never 0."""
    if value <= 1:
        return 1
    power = 10 ** math.floor(math.log10(value))
    return next(float(step * power) for step in (1, 2, 5, 10) if value <= step * power)


def _round_up_time(value_ms: float) -> float:
    return next((float(time) for time in _TIMES_MS if value_ms <= time), value_ms)
