"""A reader in an empty directory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.documentation.walking import Walk
from tests.servers.kept import free_port


@pytest.fixture
def walk(tmp_path: Path, redis_url: str) -> Iterator[Walk]:
    """Pages say that a broker is at its usual place; here it is somewhere else, and so is everything that listens."""
    ports = {f":{port}": f":{free_port()}" for port in (8000, 5000)}
    walk = Walk(tmp_path, {"redis://localhost:6379/0": redis_url, **ports})
    yield walk
    walk.close()
