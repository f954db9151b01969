"""Handing batches to Celery: one delivery task a batch, readable in Flower, without anything worth reading in it."""

from collections.abc import Iterator, Sequence

from celery import Celery

from outbox import checkpoints
from outbox.batching import Batch
from outbox.integrations.celery import envelope
from outbox.integrations.celery.names import channel_queue, deliver_task
from outbox.integrations.celery.publishing import Publication, Publisher


class CeleryDispatcher:
    """The relay's :class:`~outbox.relay.Dispatcher` over a Celery application on which ``install`` was called."""

    def __init__(self, app: Celery) -> None:
        self._publisher = Publisher(app)

    def dispatch(self, batches: Sequence[Batch]) -> None:
        """Publish the batches. Raises :class:`~outbox.errors.BrokerUnavailable`."""
        self._publisher.publish(_publications(batches))
        checkpoints.reach("publish", "done")


def _publications(batches: Sequence[Batch]) -> Iterator[Publication]:
    for batch in batches:
        checkpoints.reach("publish", "next")
        yield _publication(batch)


def _publication(batch: Batch) -> Publication:
    count = len(batch.claims)
    rows = f"{count} row{'' if count == 1 else 's'}"
    return Publication(
        deliver_task(batch.channel),
        envelope.pack(batch.claims, capped=batch.capped, watched=batch.watched),
        {
            "queue": channel_queue(batch.channel),
            "shadow": deliver_task(batch.channel),
            "argsrepr": f"({rows}, first {batch.claims[0].id})",
            "kwargsrepr": "{}",
        },
    )
