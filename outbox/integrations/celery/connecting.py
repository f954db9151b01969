"""For tools that have no Celery application of their own, or somebody else's: one for a broker's URL, and a relay over it."""

from celery import Celery
from kombu.exceptions import KombuError

from outbox.errors import BrokerUnavailable, ConfigurationError
from outbox.integrations.celery.dispatching import CeleryDispatcher
from outbox.integrations.celery.install import install
from outbox.integrations.celery.names import deliver_task
from outbox.integrations.celery.publishing import impatient
from outbox.outbox import Outbox
from outbox.relay import Relay

REDIS_VISIBILITY_TIMEOUT_S = 3600.0
"""kombu's default."""


def app_for(broker_url: str) -> Celery:
    """An application that publishes to that broker. Raises :class:`~outbox.errors.ConfigurationError` for an unusable URL."""
    scheme = broker_url.partition("://")[0]
    if "://" not in broker_url:
        raise ConfigurationError("the broker URL does not parse; it looks like redis://host:6379/0 or amqp://user@host//")
    app = Celery("outbox", broker=broker_url, set_as_current=False)
    app.conf.update(task_serializer="json", accept_content=["json"], task_ignore_result=True)
    try:
        impatient(app)
    except ImportError as error:
        raise ConfigurationError(f"no client for {scheme}:// ({error}): pip install 'celery-outbox[redis]'") from error
    except (KeyError, ValueError) as error:
        raise ConfigurationError(f"the broker URL means nothing to Celery ({scheme}://): {error}") from error
    return app


def relay_over(app: Celery, outbox: Outbox) -> Relay:
    """A relay that publishes through ``app``, on which ``install`` is called unless that was done."""
    if all(deliver_task(channel.name) in app.tasks for channel in outbox.channels):
        return Relay(outbox.store, outbox.channels, CeleryDispatcher(app), outbox.telemetry, outbox.owner)
    return install(app, outbox, schedule=False, declare_queues=False, durable_tasks=False).relay


def require_broker(app: Celery) -> None:
    """Connect once. Raises :class:`~outbox.errors.BrokerUnavailable`."""
    connection = impatient(app)
    failures: tuple[type[BaseException], ...] = (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
    except failures as error:
        raise BrokerUnavailable(f"the broker {connection.as_uri()} does not answer: {error}") from error
    finally:
        connection.release()


def visibility_timeout_s(app: Celery) -> float | None:
    """Seconds after which the broker hands an unacknowledged task out again; ``None`` for brokers without such a timeout."""
    connection = app.connection_for_write()
    if connection.transport.driver_type != "redis":
        return None
    return float((app.conf.broker_transport_options or {}).get("visibility_timeout", REDIS_VISIBILITY_TIMEOUT_S))


def longest_delivery_s(app: Celery, outbox: Outbox) -> float:
    """Seconds that the longest delivery task may run; 0 where none is registered."""
    tasks = (app.tasks.get(deliver_task(channel.name)) for channel in outbox.channels)
    return max((float(task.time_limit or 0) for task in tasks if task is not None), default=0.0)
