"""``python -m workers``: one command starts everything, keeps it alive, and takes it along however it ends."""

import base64
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.servers.kept import free_port
from tests.servers.supervised import PATIENCE_S, Service, eventually, is_running
from tests.servers.valkey import OwnValkeyServer
from workers import embedded_broker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts a service that is gone when the test ends."""
    started: list[Service] = []

    def start(*options: str, data_dir: Path = tmp_path / "var", **settings: str) -> Service:
        started.append(Service(data_dir, *options, **settings))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.mark.long_on("prefork")
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_when_the_supervisor_is_killed_no_process_of_it_stays_behind(service: Callable[..., Service], pool: str) -> None:
    running = service(pool=pool)
    running.is_up()
    family = running.everyone()
    # supervisor, leash, broker, node, relay, beat, and two pool processes each for node and relay
    assert len(family) == (10 if pool == "prefork" else 6)

    running.process.kill()

    psutil.wait_procs(family, timeout=PATIENCE_S)
    assert [process for process in family if is_running(process)] == []
    assert running.everyone() == []


def test_when_its_leash_was_killed_first_no_process_stays_behind_either(service: Callable[..., Service]) -> None:
    running = service()
    running.is_up()
    [leash] = running.leashes()
    group = os.getpgid(leash.pid)

    leash.kill()
    eventually(lambda: running.leashes() not in ([], [leash]), "there is no new leash")
    family = running.everyone()
    assert {os.getpgid(process.pid) for process in family} == {group, os.getpgid(running.process.pid)}
    running.process.kill()

    psutil.wait_procs(family, timeout=PATIENCE_S)
    assert running.everyone() == []


@pytest.mark.parametrize("request_to_stop", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM])
def test_a_signal_stops_everything_in_good_order(service: Callable[..., Service], request_to_stop: signal.Signals) -> None:
    running = service()
    running.is_up()
    family = running.everyone()

    running.process.send_signal(request_to_stop)

    assert running.ends() == 0
    assert [process for process in family if is_running(process)] == []
    assert not any("killed" in line for line in running.lines)
    assert "Warm shutdown" in running.log_of("node-1")
    assert "bye bye" in running.log_of("broker")


@pytest.mark.proves("R9", "T15")
def test_a_signal_during_the_start_is_not_lost(service: Callable[..., Service]) -> None:
    """T15: stop() during start was a no-op and the loop outlived shutdown."""
    running = service()
    running.says("broker started")

    running.process.send_signal(signal.SIGHUP)

    assert running.ends() == 0
    assert running.everyone() == []


def test_a_service_that_was_started_with_nohup_outlives_its_terminal(service: Callable[..., Service]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does: whoever is started now inherits it
    try:
        running = service()
    finally:
        signal.signal(signal.SIGHUP, before)
    running.says("running")

    running.process.send_signal(signal.SIGHUP)
    os.kill(running.pid_of("beat"), signal.SIGKILL)

    running.says("beat was killed by signal 9; again")
    running.process.send_signal(signal.SIGTERM)
    assert running.ends() == 0
    assert running.everyone() == []


def test_a_second_ctrl_c_does_not_wait_for_a_node_that_hangs(service: Callable[..., Service]) -> None:
    running = service(shutdown_grace_s="3600")
    running.is_up()
    os.kill(running.pid_of("node-1"), signal.SIGSTOP)

    running.process.send_signal(signal.SIGINT)
    running.says("stopping")
    running.process.send_signal(signal.SIGINT)

    assert running.ends() == 0
    assert running.everyone() == []
    assert any("node-1 is killed" in line for line in running.lines)


def test_a_node_that_does_not_drain_within_the_grace_is_killed(service: Callable[..., Service]) -> None:
    running = service(shutdown_grace_s="0")
    running.is_up()
    os.kill(running.pid_of("node-1"), signal.SIGSTOP)

    running.process.send_signal(signal.SIGTERM)

    assert running.ends() == 0
    assert running.everyone() == []
    assert any("node-1 is killed: it did not end in time" in line for line in running.lines)


def test_a_child_that_dies_is_started_again_and_that_is_said(service: Callable[..., Service]) -> None:
    running = service()
    running.is_up()

    for child in ("node-1", "relay", "beat", "broker"):
        killed = running.pid_of(child)
        os.kill(killed, signal.SIGKILL)

        running.says(rf"{child} was killed by signal 9; again .* \(see .*{child}\.log\)")
        eventually(lambda child=child, killed=killed: running.pid_of(child) != killed, f"{child} is not started again")
    running.is_up()


def test_a_second_supervisor_on_the_same_data_directory_is_refused(service: Callable[..., Service]) -> None:
    first = service()
    first.says("running")

    second = service()

    assert second.ends() == 1
    assert [line.strip() for line in second.lines] == [
        f"outbox: {first.data_dir} belongs to a running supervisor (pid {first.process.pid});"
        " stop it or choose another OUTBOX_DATA_DIR"
    ]
    assert first.process.poll() is None


def test_two_data_directories_are_two_services(service: Callable[..., Service], tmp_path: Path) -> None:
    services = [service(data_dir=tmp_path / name) for name in ("one", "two")]

    for running in services:
        running.says("running")


def test_a_broker_that_outlived_a_killed_supervisor_is_replaced_by_one_on_the_leash(
    service: Callable[..., Service], tmp_path: Path
) -> None:
    data_dir = tmp_path / "var"
    with subprocess.Popen(embedded_broker.choose_server(data_dir).command, stdout=subprocess.DEVNULL) as orphan:
        try:
            eventually(lambda: embedded_broker.answers(data_dir), "the orphan does not answer")

            running = service()
            running.says("running")

            assert orphan.wait(PATIENCE_S) == 0
            assert running.pid_of("broker") != orphan.pid
        finally:
            orphan.kill()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"nodes": "none"}, "OUTBOX_NODES=none: input should be a valid integer"),
        ({"channels": "missing.toml"}, "missing.toml cannot be read: No such file or directory"),
        ({"database_url": "sqlite:////nowhere/outbox.db"}, "/nowhere/outbox.db"),
    ],
)
def test_what_cannot_work_is_told_in_one_line_before_anything_starts(
    service: Callable[..., Service], settings: dict[str, str], said: str
) -> None:
    running = service(**settings)

    assert running.ends() == 1
    [line] = running.lines
    assert line.startswith("outbox: ")
    assert said in line
    assert running.everyone() == []


def test_a_port_of_flower_that_is_taken_is_told_before_anything_starts(service: Callable[..., Service]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = service(flower="yes", flower_port=str(port))

        assert running.ends() == 1
    assert running.lines == [
        f"outbox: Flower's port {port} cannot be used (Address already in use);"
        " set OUTBOX_FLOWER_PORT to another, or OUTBOX_FLOWER=no\n"
    ]


def test_flower_runs_and_its_address_and_password_are_said(service: Callable[..., Service]) -> None:
    running = service(flower="yes", flower_port=str(free_port()))
    address, password = running.says(r"Flower is at (http://127\.0\.0\.1:\d+) \(user outbox, password (\S+)\)").groups()
    credentials = base64.b64encode(f"outbox:{password}".encode()).decode()
    page = urllib.request.Request(address, headers={"Authorization": f"Basic {credentials}"})

    def is_shown() -> bool:
        try:
            with urllib.request.urlopen(page, timeout=10) as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError:  # not yet
            return False

    eventually(is_shown, "Flower does not answer")


def test_a_configured_broker_that_is_away_is_said_and_waited_for(
    service: Callable[..., Service], own_redis: OwnValkeyServer
) -> None:
    own_redis.process.stop()

    running = service(broker_url=own_redis.url)
    running.says("does not answer: .*; the workers keep trying")
    running.says("running")
    own_redis.process.start()

    running.is_up(own_redis.url)
    assert not any("broker started" in line for line in running.lines)


def test_the_service_goes_on_when_nobody_reads_any_more_what_it_says(service: Callable[..., Service]) -> None:
    running = service(deaf_after="running")
    running.says("running")
    killed = running.pid_of("node-1")

    os.kill(killed, signal.SIGKILL)

    eventually(lambda: set(running.pids_of("node-1@")) - {killed}, "node-1 is not started again")
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(PATIENCE_S) == 0
    assert running.everyone() == []
