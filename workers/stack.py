"""Which processes the service consists of, and what must be right before any of them starts."""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from config.channels import load_channels
from config.settings import LogFormat, Settings, variable
from config.urls import masked
from outbox import Outbox
from outbox.errors import ConfigurationError, DatabaseUnavailable
from outbox.integrations.celery.names import RELAY_QUEUE, channel_queue
from workers import broker, dashboard, embedded_broker
from workers.child import Child, Stage

PROJECT: Final = Path(__file__).resolve().parent.parent
LOOPBACK: Final = "127.0.0.1"


def check(settings: Settings) -> None:
    """Find out now what would otherwise make a child fail again and again.

    Raises :class:`~outbox.errors.ConfigurationError`.
    """
    load_channels(settings)
    if settings.flower:
        _require_free("Flower's", settings.flower_port, "flower")
    if settings.metrics:
        _require_free("the metrics'", settings.metrics_port, "metrics")
    if settings.dashboard:
        dashboard.auth(settings)
        _require_free("the dashboard's", settings.dashboard_port, "dashboard")


def upgrade_database(settings: Settings) -> None:
    """Bring the database to this release's schema. Raises :class:`~outbox.errors.OutboxError` when that cannot be done."""
    outbox = Outbox(settings.database_url)
    try:
        outbox.upgrade_schema()
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(f"{masked(settings.database_url)}: {error}") from error
    finally:
        outbox.close()


def children(settings: Settings, log_dir: Path | None, say: Callable[[str], None]) -> list[Child]:
    """Every process of the service, in the order of starting."""
    environment = _environment(settings)

    def child(name: str, stage: Stage, command: list[str]) -> Child:
        return Child(name, stage, command, environment, log_dir / f"{name}.log" if log_dir else None)

    def stack() -> Iterator[Child]:
        if settings.broker_url is None:
            server = embedded_broker.choose_server(settings.data_dir)
            if server.warning:
                say(server.warning)
            yield child("broker", Stage.BROKER, server.command)
        queues = ",".join(channel_queue(channel.name) for channel in load_channels(settings))
        for number in range(1, settings.nodes + 1):
            yield child(f"node-{number}", Stage.NODES, _worker(f"node-{number}", queues, settings))
        yield child("relay", Stage.NODES, _worker("relay", RELAY_QUEUE, settings))
        yield child("beat", Stage.BEAT_AND_FLOWER, [*_celery("beat", settings), "--hostname=beat@%h"])
        if settings.flower:
            yield child("flower", Stage.BEAT_AND_FLOWER, _celery("flower", settings))
        if settings.metrics:
            yield child("metrics", Stage.BEAT_AND_FLOWER, [sys.executable, "-m", "workers.metrics"])
        if settings.dashboard:
            yield child("dashboard", Stage.BEAT_AND_FLOWER, [sys.executable, "-m", "workers.dashboard"])

    return list(stack())


def _worker(name: str, queues: str, settings: Settings) -> list[str]:
    return [
        *_celery("worker", settings),
        f"--hostname={name}@%h",
        f"--queues={queues}",
        f"--concurrency={settings.concurrency}",
        f"--pool={settings.pool}",
        "--without-gossip",
        "--without-mingle",
    ]


def _celery(command: str, settings: Settings) -> list[str]:
    level = [] if command == "flower" else [f"--loglevel={settings.log_level}"]
    banner = ["--quiet"] if settings.log_format is LogFormat.JSON else []  # which is no line of JSON
    return [sys.executable, "-m", "celery", "--app=workers", *banner, command, *level]


def _environment(settings: Settings) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    return {
        **settings.environment(),
        variable("broker_url"): broker.broker_url(settings),
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
    }


def _require_free(whose: str, port: int, setting: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise ConfigurationError(
                f"{whose} port {port} cannot be used ({error.strerror});"
                f" set {variable(f'{setting}_port')} to another, or {variable(setting)}=no"
            ) from None
