"""``python -m workers.health``: what an orchestrator asks, and what a person reads."""

import subprocess
from pathlib import Path

import pytest

from outbox import Outbox
from tests.servers.kept import free_port
from tests.servers.supervised import start
from tests.servers.valkey import OwnValkeyServer


def health(directory: Path, **settings: str) -> tuple[int, list[str]]:
    with start(["workers.health"], settings, cwd=directory, stdout=subprocess.PIPE) as process:
        said, _ = process.communicate(timeout=60)
    return process.returncode, said.splitlines()


def upgraded(url: str) -> str:
    outbox = Outbox(url)
    outbox.upgrade_schema()
    outbox.close()
    return url


def test_a_database_and_a_broker_that_answer_are_healthy(tmp_path: Path, database_url: str, redis_url: str) -> None:
    status, lines = health(tmp_path, database_url=upgraded(database_url), broker_url=redis_url)

    assert status == 0
    assert lines == [f"database: ok ({database_url})", f"broker: ok ({redis_url})"]


@pytest.mark.rabbitmq
def test_rabbitmq_is_healthy_too(tmp_path: Path, sqlite_url: str, rabbitmq_url: str) -> None:
    assert health(tmp_path, database_url=upgraded(sqlite_url), broker_url=rabbitmq_url)[0] == 0


def test_a_database_that_was_not_upgraded_is_unhealthy_and_says_what_to_do(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    status, lines = health(tmp_path, database_url=database_url, broker_url=redis_url)

    assert status == 1
    assert lines[0].startswith("database: ")
    assert "run `outbox db upgrade`" in lines[0]
    assert lines[1].startswith("broker: ok")


def test_what_does_not_answer_is_unhealthy_and_no_password_is_shown(tmp_path: Path) -> None:
    port = free_port()
    status, lines = health(
        tmp_path,
        database_url=f"postgresql+psycopg://app:s3cret@127.0.0.1:{port}/app",
        broker_url=f"redis://:s3cret@127.0.0.1:{port}/0",
    )

    assert status == 1
    assert lines[0].startswith(f"database: postgresql+psycopg://app:***@127.0.0.1:{port}/app: ")
    assert lines[1].startswith(f"broker: redis://:***@127.0.0.1:{port}/0 does not answer: ")
    assert len(lines) == 2
    assert "s3cret" not in "".join(lines)


def test_a_frozen_broker_does_not_hang_the_check(tmp_path: Path, sqlite_url: str, own_redis: OwnValkeyServer) -> None:
    own_redis.process.freeze()
    try:
        status, lines = health(tmp_path, database_url=upgraded(sqlite_url), broker_url=own_redis.url)
    finally:
        own_redis.process.thaw()

    assert status == 1
    assert "does not answer" in lines[1]


def test_wrong_settings_are_unhealthy_and_told(tmp_path: Path) -> None:
    status, lines = health(tmp_path, nodes="none")

    assert status == 1
    assert lines == ["settings: OUTBOX_NODES=none: input should be a valid integer, unable to parse string as an integer"]
