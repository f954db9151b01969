"""`outbox relay`: delivers here or hands out to Celery, survives what fails, and stops when it is told to."""

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

from outbox import Outbox
from tests.command import Command, application_module

APPLICATION = """
import time
from pathlib import Path
from outbox import Outbox, PermanentFailure

outbox = Outbox({url!r})
here = Path({directory!r})

@outbox.channel("fast")
def fast(message, attempt):
    if message.payload == "refuse":
        raise PermanentFailure("never\\x1b[31m\\nforged line")

@outbox.channel("slow", concurrency=1)
def slow(message, attempt):
    (here / f"begun-{{message.payload}}").touch()
    while not (here / "go").exists():
        time.sleep(0.01)
"""


@pytest.fixture
def command(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    module = application_module(monkeypatch, tmp_path, APPLICATION.format(url=sqlite_url, directory=str(tmp_path)))
    command = Command(["--app", f"{module}:outbox"])
    command.ok("db", "upgrade")
    return command


@pytest.fixture
def outbox(command: Command, sqlite_url: str) -> Iterator[Outbox]:
    with closing(Outbox(sqlite_url)) as outbox:
        yield outbox


def enqueued(command: Command, channel: str, payload: str = "text", *options: str) -> str:
    return command.ok("enqueue", channel, "--payload", json.dumps(payload), *options).stdout.strip()


def eventually(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


@contextmanager
def running(command: Command, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = command.start("relay", *arguments)
    try:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("relaying for ")
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit status and the rest of standard error."""
    _stdout, stderr = process.communicate(timeout=30)
    return process.returncode, stderr


def test_one_pass_delivers_everything_that_is_due_and_tells_what_became_of_it(command: Command, outbox: Outbox) -> None:
    for payload in ("a", "b", "refuse"):
        enqueued(command, "fast", payload)
    later = enqueued(command, "fast", "later", "--delay", "1h")

    first, second = command.ok("relay", "--inline", "--once", "--json"), command.ok("relay", "--inline", "--once")

    assert first.data["claimed"] == 3
    assert first.data["statuses"] == {"delivered": 2, "failed_terminal": 1}
    assert second.stdout == "0 claimed, 0 published again\n"
    assert outbox.get(later).status == "queued"


def test_what_the_other_side_says_cannot_forge_a_line_of_the_log(command: Command) -> None:
    enqueued(command, "fast", "refuse")

    log = command.ok("relay", "--inline", "--once").stderr

    assert r"error=never\x1b[31m\nforged line" in log
    assert "\x1b" not in log


def test_a_pass_also_does_the_maintenance_unless_told_not_to(command: Command, outbox: Outbox) -> None:
    enqueued(command, "fast", "stale", "--expires-in", "1ms", "--delay", "0")
    with outbox.store.connection_for_schema() as connection:
        connection.exec_driver_sql(
            "update message_outbox set expires_at = expires_at - 1000, next_attempt_at = next_attempt_at"
        )
    command.ok("pause", "fast")

    command.ok("relay", "--inline", "--once", "--no-maintenance")
    before = outbox.stats()[0].by_status
    command.ok("relay", "--inline", "--once")

    assert before == {"queued": 1}
    assert outbox.stats()[0].by_status == {"expired": 1}


@pytest.mark.proves("R9", "T15")
def test_the_loop_delivers_what_is_enqueued_while_it_runs_and_is_silent_when_idle(command: Command, outbox: Outbox) -> None:
    with running(command, "--inline", "--interval", "50ms") as process:
        id_ = enqueued(command, "fast")
        eventually(lambda: outbox.get(id_).status == "delivered")
        process.send_signal(signal.SIGINT)
        status, log = ended(process)

    assert status == 0
    said = [line for line in log.splitlines() if line.startswith("stopping when what is under way has ended")]
    told = [line.split()[3] for line in log.splitlines() if line not in said]
    assert len(said) == 1
    # Maintenance counts the delivery for the charts, once, and may be at it when the signal comes.
    assert [event for event in told if event != "Maintained"] == ["AttemptFinished", "RelayPassed"]
    assert told.count("Maintained") <= 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_the_middle_of_a_send_lets_it_end_and_releases_what_was_not_begun(
    command: Command, outbox: Outbox, tmp_path: Path, number: signal.Signals
) -> None:
    first, second = enqueued(command, "slow", "1"), enqueued(command, "slow", "2")

    with running(command, "--inline") as process:
        eventually((tmp_path / "begun-1").exists)
        process.send_signal(number)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("stopping")
        (tmp_path / "go").touch()
        status, _log = ended(process)

    assert status == 0
    assert not (tmp_path / "begun-2").exists()
    assert outbox.get(first).status == "delivered"
    waiting = outbox.get(second)
    assert (waiting.status, waiting.attempt_count) == ("queued", 0)


def test_a_second_signal_stops_at_once(command: Command, tmp_path: Path) -> None:
    enqueued(command, "slow", "1")

    with running(command, "--inline") as process:
        eventually((tmp_path / "begun-1").exists)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        status, _log = ended(process)

    assert status == -signal.SIGTERM


@pytest.mark.proves("R9", "T8")
def test_failing_passes_are_survived(command: Command, outbox: Outbox, sqlite_url: str) -> None:
    id_ = enqueued(command, "fast", "text", "--delay", "300ms")
    with running(command, "--inline", "--interval", "100ms") as process:
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), timeout=30)) as connection:
            connection.execute("alter table message_outbox rename to hidden")
            assert process.stderr is not None
            complaint = process.stderr.readline()
            connection.execute("alter table hidden rename to message_outbox")
        eventually(lambda: outbox.get(id_).status == "delivered")
        process.terminate()
        status, log = ended(process)

    assert "failed, next try in" in complaint
    assert "the table 'message_outbox' does not exist: run `outbox db upgrade`" in complaint
    assert "Traceback" not in complaint + log
    assert status == 0


def test_messages_go_to_celery_s_queue_of_their_channel_and_carry_no_payload(
    command: Command, outbox: Outbox, redis_url: str
) -> None:
    ids = [enqueued(command, "fast", "geheim", "--target", "-100123") for _ in range(3)]

    report = command.ok("relay", "--once", "--broker", redis_url, "--json").data

    assert (report["claimed"], report["tasks"], report["statuses"]) == (3, 1, {})
    assert {outbox.get(id_).status for id_ in ids} == {"dispatched"}
    with closing(redis.Redis.from_url(redis_url)) as broker:
        (task,) = broker.lrange("outbox.fast", 0, -1)
    assert b"outbox.deliver.fast" in task
    assert b"geheim" not in task
    assert b"-100123" not in task


def test_the_application_s_own_celery_publishes(
    command: Command, sqlite_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = application_module(
        monkeypatch, tmp_path,
        APPLICATION.format(url=sqlite_url, directory=str(tmp_path))
        + f"from celery import Celery\nfrom outbox.integrations.celery import install\n"
        f"celery = Celery('shop', broker={redis_url!r}, set_as_current=False)\ninstall(celery, outbox)\n",
    )  # fmt: skip
    monkeypatch.setenv("OUTBOX_BROKER_URL", "redis://127.0.0.1:1/0")  # which the application's own beats
    enqueued(command, "fast")

    with closing(redis.Redis.from_url(redis_url)) as broker:
        Command(["--app", f"{module}:outbox", "--app", f"{module}:celery"]).ok("relay", "--once")

        assert broker.llen("outbox.fast") == 1


def test_a_broker_that_does_not_answer_costs_the_messages_nothing(command: Command, outbox: Outbox) -> None:
    id_ = enqueued(command, "fast")

    refused = command("relay", "--once", "--broker", "redis://127.0.0.1:1/0")

    assert refused.status == 1
    assert refused.stderr.splitlines()[-1].startswith("outbox: the broker did not take them, and they stay due:")
    message = outbox.get(id_)
    assert (message.status, message.attempt_count) == ("queued", 0)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:6379", "the broker URL does not parse; it looks like redis://host:6379/0"),
        ("nosuch://h/0", "the broker URL means nothing to Celery (nosuch://)"),
        ("redis://h:port/0", "the broker URL means nothing to Celery (redis://)"),
    ],
)
def test_a_broker_url_that_means_nothing_is_refused(command: Command, url: str, said: str) -> None:
    refused = command("relay", "--once", "--broker", url)

    assert refused.status == 2
    assert said in refused.complaint


def test_somebody_must_deliver(command: Command) -> None:
    refused = command("relay")

    assert refused.status == 2
    assert "say who delivers: --broker URL, --app with a Celery application, or --inline" in refused.complaint


def test_without_channels_there_is_nothing_to_relay_for(sqlite_url: str) -> None:
    command = Command(["--database", sqlite_url])
    command.ok("db", "upgrade")

    assert "no channels are known: pass --channels FILE" in command("relay", "--inline").complaint


def test_a_schema_that_is_not_current_stops_it_before_the_first_pass(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "outbox.db").touch()
    (tmp_path / "channels.toml").write_text("[console]\n")

    refused = Command(["--database", sqlite_url, "--channels", str(tmp_path / "channels.toml")])("relay", "--inline")

    assert refused.status == 1
    assert refused.complaint.endswith("run `outbox db upgrade`")
