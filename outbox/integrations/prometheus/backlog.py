"""What the database holds, as gauges: asked at each scrape, since no process knows it by itself."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from outbox.errors import OutboxError
from outbox.integrations.prometheus import catalogue
from outbox.integrations.prometheus.catalogue import Family
from outbox.lifecycle import Status
from outbox.outbox import Outbox
from outbox.store.records import Count

COUNT_LIMIT = 100_000
"""Messages of one channel and status that a scrape counts at the most: its price does not grow with the table."""
UNREGISTERED = "(not registered)"
"""In place of the names of channels that nobody here knows: whoever writes them must not be able to fill the metrics."""

_Values = Mapping[tuple[str, ...], float]


class Backlog(Collector):
    """A collector for a registry. What a database that does not answer would say is left out, and that it does not is told."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def describe(self) -> Iterable[Metric]:
        """The names alone, so that registering it asks nothing of the database."""
        return [_gauge(family, {}) for family in catalogue.ASKED]

    def collect(self) -> Iterator[Metric]:
        """Ask the database."""
        try:
            counts = self._outbox.store.census(COUNT_LIMIT)
            gauges = [
                _gauge(catalogue.MESSAGES, self._messages(counts)),
                _gauge(catalogue.OLDEST_DUE, self._oldest_due({count.channel for count in counts})),
                _gauge(catalogue.GATES_CLOSED, self._gates_closed()),
            ]
        except OutboxError:
            yield _gauge(catalogue.DATABASE_UP, {(): 0})
            return
        yield _gauge(catalogue.DATABASE_UP, {(): 1})
        yield _gauge(catalogue.IN_FLIGHT_LIMIT, {(channel.name,): channel.max_in_flight for channel in self._outbox.channels})
        yield from gauges

    def _messages(self, counts: Sequence[Count]) -> _Values:
        rows: dict[tuple[str, ...], float] = {
            (channel.name, str(status)): 0 for channel in self._outbox.channels for status in Status
        }
        for count in counts:
            place = (self._known(count.channel), str(count.status))
            rows[place] = rows.get(place, 0) + count.rows
        return rows

    def _oldest_due(self, in_use: Set[str]) -> _Values:
        registered = {channel.name for channel in self._outbox.channels}
        names = registered if self._outbox.channels.complete else registered | in_use
        ages: dict[tuple[str, ...], float] = {(name,): 0.0 for name in sorted(names)}
        lanes = self._outbox.store.pending(sorted(names)).lanes
        now_ms = self._outbox.store.now_ms()
        for lane in lanes:
            ages[lane.channel,] = max(ages[lane.channel,], (now_ms - lane.oldest_due_at) / 1000)
        return ages

    def _gates_closed(self) -> _Values:
        return Counter(
            (self._known(gate.channel), str(gate.kind), "target" if gate.target else "channel")
            for gate in self._outbox.store.gates()
        )

    def _known(self, channel: str) -> str:
        return channel if channel in self._outbox.channels or not self._outbox.channels.complete else UNREGISTERED


def _gauge(family: Family, values: _Values) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(family.name, family.meaning, labels=family.labels)
    for labels, value in values.items():
        gauge.add_metric(labels, value)
    return gauge
