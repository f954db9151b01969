"""Everything that runs: the service with two worker nodes, the bot, its receiver; and what the show needs to look at them."""

import base64
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from celery import Celery

from config.settings import Settings, load_settings
from examples.flask_bot.ledger import Ledger
from examples.flask_bot.show import processes
from examples.flask_bot.show.screen import Screen
from outbox import Outbox
from outbox.errors import BrokerUnavailable
from workers.embedded_broker import broker_url
from workers.supervisor import Supervisor

CHANNELS = Path(__file__).parent.with_name("channels.toml")
NODES = 2
START_TIMEOUT_S = 60.0
MAINTAIN_INTERVAL_S = 1.0


@dataclass(frozen=True)
class Stack:
    """What runs, while :func:`running` lasts."""

    settings: Settings
    supervisor: Supervisor
    outbox: Outbox
    ledger: Ledger
    bot_url: str

    def node_pids(self) -> list[int]:
        """The main processes of the worker nodes that deliver."""
        children = self.supervisor.status()
        return [child.pid for child in children if child.name.startswith("node-") and child.pid is not None]


def settings_for(data_dir: Path, database_url: str | None) -> Settings:
    """The service's settings for the show: its own files, its own broker, its own database unless one is given.

    Where a port is taken, and somebody else's Flower often runs, another one will do.
    """
    settings = load_settings(
        data_dir=data_dir,
        database_url=database_url or f"sqlite:///{data_dir / 'bot.db'}",
        broker_url=None,
        channels=CHANNELS,
        nodes=NODES,
        maintain_interval_s=MAINTAIN_INTERVAL_S,
        flower=True,
    )
    ports = ("flower_port", "dashboard_port", "metrics_port")
    return settings.model_copy(update={port: _free_port(getattr(settings, port)) for port in ports})


@contextmanager
def running(settings: Settings, screen: Screen) -> Iterator[Stack]:
    """Start it all, and stop it all. Raises :class:`~outbox.errors.OutboxError`."""
    # The service's processes inherit it; channels.toml reads it.
    os.environ["BOT_WEBHOOK_SECRET"] = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    file, logs = settings.data_dir / "receiver.db", settings.data_dir / "log"
    with Supervisor(settings, screen.say) as supervisor, processes.leash() as leash:
        receiver = processes.start("examples.flask_bot.receiver", str(file), on=leash, log=logs / "receiver.log")
        environment = settings.environment() | {
            "OUTBOX_BROKER_URL": broker_url(settings.data_dir),
            "BOT_RECEIVER_URL": f"{receiver}/replies",
        }
        bot = processes.start("examples.flask_bot.bot", on=leash, log=logs / "bot.log", **environment)
        screen.say(f"the bot listens at {bot}, the receiver of its answers at {receiver}")
        _await_nodes(settings)
        outbox = Outbox(settings.database_url)
        try:
            yield Stack(settings, supervisor, outbox, Ledger(file), bot)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C does not wait for sends under way
                signal.signal(number, lambda *_: supervisor.request_stop())
            outbox.close()


def _await_nodes(settings: Settings) -> None:
    """Wait until every worker node answers, the one that relays too: the show is about work, not about starting."""
    deadline = time.monotonic() + START_TIMEOUT_S
    with Celery(broker=broker_url(settings.data_dir)) as app:
        while len(app.control.ping(timeout=1.0, limit=NODES + 1) or ()) <= NODES:
            if time.monotonic() > deadline:
                raise BrokerUnavailable(f"the worker nodes do not answer (see {settings.data_dir / 'log'})")


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return wanted
