"""``python -m workers.metrics``: serves /metrics of this machine's worker nodes, on the loopback interface.

The nodes' processes count into files of the data directory, which the exporter adds up; what the database holds it asks itself.
A file belongs to a place in a pool, not to a process: whoever takes the place of a dead process counts on where that one ended,
so that no count is lost by a death, and the files do not become more.
"""

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from billiard.process import current_process
from celery import signals
from prometheus_client import CollectorRegistry, start_http_server, values
from prometheus_client.multiprocess import MultiProcessCollector

from config.channels import load_channels
from config.settings import Settings, load_settings
from outbox import Outbox
from outbox.errors import OutboxError
from outbox.integrations.prometheus import Backlog, instrument

LOOPBACK = "127.0.0.1"


def main() -> int:
    """Serve until asked to stop; the exit status."""
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        settings = load_settings()
        outbox = Outbox(settings.database_url, channels=load_channels(settings))
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(_directory(settings)))  # type: ignore[no-untyped-call]
        registry.register(Backlog(outbox))
        server, serving = start_http_server(settings.metrics_port, LOOPBACK, registry)
    except (OutboxError, OSError) as error:
        print(f"outbox: no metrics: {error}", file=sys.stderr)
        return 1
    print(f"outbox: metrics are at http://{LOOPBACK}:{settings.metrics_port}/metrics", flush=True)
    signal.sigwait(ends)
    server.shutdown()
    serving.join()
    server.server_close()
    outbox.close()
    return 0


def count_in_workers(outbox: Outbox, settings: Settings) -> None:
    """Have the process count what it does with ``outbox``, and those forked from it, if it becomes a worker node."""

    def begin(sender: str, **_signal: Any) -> None:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_directory(settings))
        values.ValueClass = values.MultiProcessValue(lambda: f"{sender}-{_place()}")  # type: ignore[no-untyped-call]
        instrument(outbox, CollectorRegistry(), backlog=False)

    signals.celeryd_init.connect(begin, weak=False)


def begin_anew(settings: Settings) -> None:
    """Forget what was counted before, by other releases perhaps; only while no worker node runs on the data directory."""
    shutil.rmtree(_directory(settings))


def _directory(settings: Settings) -> Path:
    settings.make_data_dir()
    directory = settings.data_dir / "metrics"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def _place() -> str:
    """The place of this process in its node's pool; ``main`` for the node's own process, where threads are the pool."""
    index = getattr(current_process(), "index", None)
    return "main" if index is None else str(index)


if __name__ == "__main__":
    sys.exit(main())
