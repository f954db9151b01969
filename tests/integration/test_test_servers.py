"""The servers that the other tests stand on."""

import select
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import kombu
import psutil
import psycopg
import pytest
import redis
from sqlalchemy import create_engine, make_url, text

from tests.servers import keeper, kept, postgresql, valkey


def test_each_test_gets_an_empty_database_of_its_own(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("create table only_here (id integer)"))
    engine.dispose()


def test_another_test_does_not_see_what_the_first_one_left(database_url: str) -> None:
    test_each_test_gets_an_empty_database_of_its_own(database_url)


def test_a_database_is_copied_from_a_template(postgres_server: postgresql.PostgresServer) -> None:
    with postgres_server.database() as original:
        with psycopg.connect(postgresql.libpq_url(make_url(original))) as connection:
            connection.execute("create table copied (id integer)")
        with (
            postgres_server.database(template=make_url(original).database) as copy,
            psycopg.connect(postgresql.libpq_url(make_url(copy))) as connection,
        ):
            assert connection.execute("select count(*) from copied").fetchone() == (0,)


def test_the_shared_broker_is_empty_when_a_test_begins(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_the_shared_broker_is_empty_again_for_the_next_test(redis_url: str) -> None:
    test_the_shared_broker_is_empty_when_a_test_begins(redis_url)


def test_a_durable_broker_keeps_its_messages_over_a_kill(own_redis: valkey.OwnValkeyServer) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.set("task", "1")
    own_redis.process.kill()
    own_redis.process.start()
    with redis.Redis.from_url(own_redis.url) as client:
        assert client.get("task") == b"1"


def test_a_frozen_broker_answers_again_when_thawed(own_redis: valkey.OwnValkeyServer) -> None:
    with redis.Redis.from_url(own_redis.url, socket_timeout=0.2, retry=None) as client:
        own_redis.process.freeze()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        own_redis.process.thaw()
        assert client.ping()


def test_a_frozen_server_can_be_closed() -> None:
    with valkey.running() as server:
        server.process.freeze()
    assert not server.process.is_running()
    assert not server.process.directory.exists()


def test_a_database_server_comes_back_with_its_data(own_postgres: postgresql.OwnPostgresServer) -> None:
    url = own_postgres.create_database()
    own_postgres.process.stop()
    assert not own_postgres.process.is_running()
    own_postgres.process.start()
    with psycopg.connect(postgresql.libpq_url(make_url(url))) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_frozen_database_answers_nobody_until_it_is_thawed(own_postgres: postgresql.OwnPostgresServer) -> None:
    url = postgresql.libpq_url(make_url(own_postgres.create_database()))
    with closing(psycopg.connect(url)) as connection:
        own_postgres.process.freeze()
        connection.pgconn.send_query(b"select 1")
        readable, _, _ = select.select([connection.fileno()], [], [], 0.3)
        assert not readable
        own_postgres.process.thaw()
        readable, _, _ = select.select([connection.fileno()], [], [], 10)
        assert readable


def test_a_frozen_database_can_be_closed() -> None:
    with postgresql.running_own() as server:
        connection = psycopg.connect(postgresql.libpq_url(make_url(server.create_database())))
        family = keeper.process_tree(server.process.pid)
        server.process.freeze()
    connection.close()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive


def test_a_killed_database_server_recovers(own_postgres: postgresql.OwnPostgresServer) -> None:
    url = postgresql.libpq_url(make_url(own_postgres.create_database()))
    own_postgres.process.kill()
    own_postgres.process.start()
    with psycopg.connect(url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_rabbitmq_carries_a_message(rabbitmq_url: str) -> None:
    with kombu.Connection(rabbitmq_url) as connection, connection.SimpleQueue("greetings") as queue:
        queue.put("hello")
        message = queue.get(timeout=5)
        message.ack()
        assert message.payload == "hello"


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = kept.KeptServer([sys.executable, "-c", "raise SystemExit('no room')"], tmp_path / "data", lambda: False)
    broken.directory.mkdir()
    with pytest.raises(kept.ServerFailed, match="no room"):
        broken.start()


def test_a_server_that_does_not_exist_is_named(tmp_path: Path) -> None:
    missing = kept.KeptServer(["no-such-server"], tmp_path / "data", lambda: True)
    missing.directory.mkdir()
    with pytest.raises(kept.ServerFailed, match="no-such-server"):
        missing.start()


TWO_SERVERS = """
import sys
from tests.servers import postgresql, valkey
with postgresql.running_own() as database, valkey.running() as broker:
    for process in (database.process, broker.process):
        print(process.pid, process.directory, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_no_server_and_no_data_outlive_a_killed_test_run(ending: signal.Signals) -> None:
    run = subprocess.Popen([sys.executable, "-c", TWO_SERVERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    servers = [run.stdout.readline().split() for _ in range(2)]
    processes = [psutil.Process(int(pid)) for pid, _ in servers]
    keepers = [process.parent() for process in processes]
    run.send_signal(ending)
    run.communicate()
    gone, alive = psutil.wait_procs([*processes, *filter(None, keepers)], timeout=20)
    assert len(gone) == 4
    assert not alive
    assert not any(Path(directory).exists() for _, directory in servers)
