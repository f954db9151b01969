"""Which broker the service uses, and whether it answers."""

from typing import Final

from kombu import Connection

from config.settings import Settings, variable
from config.urls import masked
from outbox.errors import BrokerUnavailable, ConfigurationError
from workers import embedded_broker

TIMEOUT_S: Final = 3.0


def broker_url(settings: Settings) -> str:
    """The URL of the configured broker, else that of the embedded one."""
    return settings.broker_url or embedded_broker.broker_url(settings.data_dir)


def require_broker(settings: Settings) -> str:
    """The broker's URL; raises :class:`~outbox.errors.ConfigurationError` when it would be embedded and does not run."""
    if settings.broker_url is None and not embedded_broker.answers(settings.data_dir):
        raise ConfigurationError(
            f"no broker: the embedded one of {settings.data_dir} is not running."
            f" Start the whole service with `python -m workers`, or set {variable('broker_url')}"
        )
    return broker_url(settings)


def require_answer(url: str) -> None:
    """Raise :class:`~outbox.errors.BrokerUnavailable` unless the broker answers within some seconds."""
    with Connection(url, connect_timeout=TIMEOUT_S, transport_options=_impatient(url)) as connection:
        try:
            connection.channel()
        except Exception as error:  # each transport has errors of its own
            raise BrokerUnavailable(f"{masked(url)} does not answer: {error}") from error


def _impatient(url: str) -> dict[str, float]:
    if url.startswith(("amqp", "pyamqp")):
        return {"read_timeout": TIMEOUT_S, "write_timeout": TIMEOUT_S}
    return {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
