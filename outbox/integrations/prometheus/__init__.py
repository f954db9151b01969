"""Prometheus: ``instrument(outbox)``, and whatever serves the application's metrics serves the outbox's with them."""

from outbox.errors import ConfigurationError
from outbox.extras import extra
from outbox.outbox import Outbox

with extra("prometheus", "the integration with Prometheus"):
    from prometheus_client import REGISTRY, CollectorRegistry

    from outbox.integrations.prometheus.backlog import Backlog
    from outbox.integrations.prometheus.counting import Counting

__all__ = ["Backlog", "instrument"]


def instrument(outbox: Outbox, registry: CollectorRegistry = REGISTRY, *, backlog: bool = True) -> None:
    """Count what this process does with ``outbox``, and tell at each scrape what its database holds.

    Several processes that are scraped as one need prometheus-client's multiprocess mode. Their registry then holds no backlog,
    so give that to the one from which the scrape is answered: ``registry.register(Backlog(outbox))``.

    :param backlog: whether to ask the database at each scrape.
    :raises outbox.errors.ConfigurationError: an outbox is instrumented in that registry already; each needs one of its own.
    """
    try:
        counting = Counting(registry)
        if backlog:
            registry.register(Backlog(outbox))
    except ValueError as error:
        raise ConfigurationError(f"an outbox is instrumented in this registry already: {error}") from error
    outbox.channels.subscribe(counting.expect)
    outbox.telemetry.subscribe(counting)
