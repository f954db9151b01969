"""Rounds that take turns, and what they come to: medians, spreads and ratios of one run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True)
class Target:
    """The ratio of ours to theirs that is wanted: at least, or at most, so much; none where a rival promises less."""

    at_least: float | None = None
    at_most: float | None = None

    def is_met_by(self, ratio: float) -> bool:
        return (self.at_least is None or ratio >= self.at_least) and (self.at_most is None or ratio <= self.at_most)

    @property
    def is_wanted(self) -> bool:
        return self.at_least is not None or self.at_most is not None

    def __str__(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}×"
        return f"≤ {self.at_most:g}×" if self.at_most is not None else ""


@dataclass(frozen=True)
class Figures:
    """One line of the table: a figure of each round, ours and theirs."""

    id: str
    what: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float]
    target: Target
    note: str = ""
    """What has to be known to read the figure."""
    error: str = ""
    """Why the other side has no figure."""

    @property
    def ratio(self) -> float | None:
        """Of the medians; none without both."""
        return median(self.ours) / median(self.theirs) if self.theirs else None

    @property
    def is_met(self) -> bool | None:
        """None where nothing is wanted or nothing was measured."""
        return self.target.is_met_by(self.ratio) if self.target.is_wanted and self.ratio is not None else None


def spread(values: Sequence[float]) -> float | None:
    """From the least to the greatest, as a share of the median; none of nothing."""
    return (max(values) - min(values)) / median(values) if values and median(values) else None


Round = Callable[[], float]


def in_turns(rounds: int, contenders: Mapping[str, Round], told: Callable[[], None]) -> dict[str, list[float]]:
    """Every contender once a round, each round in the opposite order: a machine that slows down slows all of them.

    ``told`` is called after each measurement.
    """
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in _order(contenders, number):
            figures[name].append(contenders[name]())
            told()
    return figures


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that ``percent`` % of the values do not exceed."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def _order(contenders: Mapping[str, Round], number: int) -> Iterator[str]:
    return reversed(list(contenders)) if number % 2 else iter(contenders)
