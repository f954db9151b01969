"""`outbox doctor`: silent about what is sound, and for everything else a finding that says how to mend it."""

import base64
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from outbox import Outbox
from outbox.store.records import GateKind
from tests.command import Command, Ended, application_module

ENGINE = """
from sqlalchemy import create_engine, event
from outbox import Outbox

engine = create_engine({url!r}, **{options!r})

@event.listens_for(engine, "connect")
def connected(connection, record):
    {connect}

@event.listens_for(engine, "begin")
def begun(connection):
    {begin}

outbox = Outbox(engine=engine)
"""


@pytest.fixture
def command(sqlite_url: str) -> Command:
    command = Command(["--database", sqlite_url])
    command.ok("db", "upgrade")
    return command


@pytest.fixture
def outbox(command: Command, sqlite_url: str) -> Iterator[Outbox]:
    with closing(Outbox(sqlite_url)) as outbox:
        yield outbox


def findings(ended: Ended) -> dict[str, str]:
    """What ``doctor --json`` found, by check; each finding says how to mend it."""
    assert ended.status == (1 if ended.data["findings"] else 0)
    return {finding["check"]: f"{finding['problem']} -> {finding['mend']}" for finding in ended.data["findings"]}


def execute(outbox: Outbox, statement: str) -> None:
    with outbox.store.connection_for_schema() as connection:
        connection.exec_driver_sql(statement)


def test_a_sound_installation_has_no_findings_and_every_check_is_told(command: Command, tmp_path: Path) -> None:
    (tmp_path / "channels.toml").write_text("[console]\nttl = 60\n")
    command.ok("enqueue", "console")

    ended = Command([*command.options, "--channels", str(tmp_path / "channels.toml")]).ok("doctor")

    assert {line.split(maxsplit=1)[0] for line in ended.stdout.splitlines()} == {"ok"}
    assert [line.split(maxsplit=1)[1] for line in ended.stdout.splitlines()] == [
        "schema", "database", "clock", "channels", "liveness", "waiting", "parked", "closed channels", "timeouts",
        "secrets",
    ]  # fmt: skip


def test_a_finding_is_followed_by_how_to_mend_it(command: Command, outbox: Outbox) -> None:
    command.ok("enqueue", "mail")
    execute(outbox, "update message_outbox set status = 'parked'")

    ended = command("doctor")

    assert ended.status == 1
    assert "wrong  parked: 1 messages of channel 'mail' are parked and wait for a decision" in ended.stdout
    looking, deciding = "`outbox list --status parked --channel mail`", "`outbox resolve` with their ids or `--channel mail`"
    assert f"       -> {looking}, then {deciding}" in ended.stdout


def test_without_a_current_schema_nothing_else_is_looked_at(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "outbox.db").touch()

    ended = Command(["--database", sqlite_url])("doctor", "--json")

    assert ended.data["checked"] == ["schema"]
    assert "run `outbox db upgrade`" in findings(ended)["schema"]


def test_a_database_out_of_reach_is_a_finding() -> None:
    ended = Command(["--database", "postgresql://app:s3cret@127.0.0.1:1/shop"])("doctor", "--json")

    assert "the database cannot be reached" in findings(ended)["schema"]
    assert "s3cret" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("connect", "begin", "is_deferred"),
    [
        ("pass", "pass", False),
        ("connection.isolation_level = None", "connection.exec_driver_sql('BEGIN')", True),
        ("connection.isolation_level = None", "connection.exec_driver_sql('BEGIN DEFERRED')", True),
        ("connection.isolation_level = None", "connection.exec_driver_sql('BEGIN IMMEDIATE')", False),
        ("connection.isolation_level = None", "connection.exec_driver_sql('BEGIN EXCLUSIVE')", False),
    ],
)
def test_an_application_s_engine_whose_transactions_begin_deferred_is_found(
    command: Command, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    connect: str, begin: str, is_deferred: bool,
) -> None:  # fmt: skip
    source = ENGINE.format(url=sqlite_url, options={}, connect=connect, begin=begin)
    module = application_module(monkeypatch, tmp_path, source)

    ended = Command(["--app", f"{module}:outbox"])("doctor", "--json")

    found = findings(ended).get("application's engine", "")
    assert ("begins deferred transactions" in found) is is_deferred
    assert ("BEGIN IMMEDIATE in a begin event" in found) is is_deferred
    assert "application's engine" in ended.data["checked"]


def test_what_doctor_calls_deferred_fails_under_a_concurrent_writer_and_what_it_passes_does_not(sqlite_url: str) -> None:
    """The reason for the check: the busy timeout does not help a transaction that read before it writes."""
    path = sqlite_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as other:
        other.execute("pragma journal_mode = wal")
        other.execute("create table t (x)")

    def read_then_write(begin: str | None) -> None:
        with closing(sqlite3.connect(path, timeout=5, isolation_level=None if begin else "")) as reader:
            if begin:
                reader.execute(begin)
            reader.execute("select count(*) from t").fetchone()
            if begin != "BEGIN IMMEDIATE":  # which nobody can overtake
                with closing(sqlite3.connect(path)) as other:
                    other.execute("insert into t values (1)")
                    other.commit()
            reader.execute("insert into t values (2)")
            reader.commit()

    read_then_write("BEGIN IMMEDIATE")
    read_then_write(None)
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        read_then_write("BEGIN DEFERRED")


@pytest.mark.parametrize(
    ("connect", "options", "said"),
    [
        ("connection.execute('pragma synchronous = off')", {}, "synchronous=0: a power failure can take back"),
        ("connection.execute('pragma synchronous = normal')", {}, "synchronous=1: a power failure can take back"),
        ("pass", {"connect_args": {"timeout": 0.1}}, "waits 100 ms for the write lock"),
    ],
)
def test_connections_that_lose_commits_or_give_up_too_soon_are_found(
    command: Command, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    connect: str, options: dict[str, object], said: str,
) -> None:  # fmt: skip
    source = ENGINE.format(url=sqlite_url, options=options, connect=connect, begin="pass")
    module = application_module(monkeypatch, tmp_path, source)

    ended = Command(["--app", f"{module}:engine"])("doctor", "--json")

    assert said in findings(ended)["application's engine"]


def test_a_file_system_on_which_readers_and_writers_must_wait_for_each_other_is_found(tmp_path: Path) -> None:
    command = Command(["--database", f"sqlite:///file:{tmp_path}/outbox.db?vfs=unix-dotfile&uri=true"])
    command.ok("db", "upgrade")

    found = findings(command("doctor", "--json"))["database"]

    assert "the database uses journal_mode=delete, so readers and writers wait for each other" in found
    assert "WAL does not work over a network" in found


@pytest.mark.postgres
def test_postgresql_that_may_lose_commits_is_found(postgres_url: str) -> None:
    """The server of these tests is faster than durable, which is just what doctor has to notice."""
    command = Command(["--database", postgres_url])
    command.ok("db", "upgrade")

    found = [finding["problem"] for finding in command("doctor", "--json").data["findings"]]

    assert found == [
        "the database runs with fsync=off: a crash of its host can destroy it",
        "the database runs with synchronous_commit=off: a crash can forget that a message was sent, and send it again",
    ]


@pytest.mark.postgres
def test_a_database_that_cannot_be_written_is_found(postgres_url: str) -> None:
    Command(["--database", postgres_url]).ok("db", "upgrade")
    read_only = Command(["--database", f"{postgres_url}?options=-c%20default_transaction_read_only%3Don"])

    found = [f"{finding['problem']} -> {finding['mend']}" for finding in read_only("doctor", "--json").data["findings"]]

    assert "the database is read-only: a standby, or a role that may not write -> connect to the primary" in found


def test_a_sqlite_file_that_cannot_be_written_is_found_in_whoever_s_engine(
    command: Command, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///file:{sqlite_url.removeprefix('sqlite:///')}?mode=ro&uri=true"
    module = application_module(
        monkeypatch, tmp_path, f"from sqlalchemy import create_engine\nengine = create_engine({url!r})\n"
    )

    own = findings(Command(["--database", url])("doctor", "--json"))
    application_s = findings(Command([*command.options, "--app", f"{module}:engine"])("doctor", "--json"))

    assert own["database"].startswith("the database is read-only: its file or file system cannot be written")
    assert application_s["application's engine"].startswith("the application's engine is read-only: ")
    assert "let the process write the file and its directory" in own["database"]


def test_a_sqlite_file_that_somebody_is_writing_is_not_called_read_only(command: Command, outbox: Outbox) -> None:
    with outbox.store.transaction():
        ended = command("doctor", "--json")

    assert "read-only" not in ended.stdout


def test_an_application_s_engine_that_cannot_connect_is_found(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from sqlalchemy import create_engine\nengine = create_engine('sqlite:////nowhere/app.db')\n"
    module = application_module(monkeypatch, tmp_path, source)

    found = findings(Command([*command.options, "--app", f"{module}:engine"])("doctor", "--json"))

    assert found["application's engine"].startswith("unable to open database file")


@pytest.mark.postgres
def test_an_engine_in_autocommit_mode_is_found(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Command(["--database", postgres_url]).ok("db", "upgrade")
    source = ENGINE.format(url=postgres_url, options={"isolation_level": "AUTOCOMMIT"}, connect="pass", begin="pass")
    module = application_module(monkeypatch, tmp_path, source)

    ended = Command(["--app", f"{module}:engine"])("doctor", "--json")

    problems = [finding["problem"] for finding in ended.data["findings"]]
    assert "the application's engine is in autocommit mode: a message would be sent for data that is rolled back" in problems


def test_a_clock_that_differs_from_the_host_s_is_found(
    command: Command, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = application_module(
        monkeypatch, tmp_path,
        "import time\nfrom outbox import Outbox\n\nclass Ahead:\n"
        "    def now_ms(self):\n        return time.time_ns() // 1_000_000 + 3_600_000\n\n"
        f"outbox = Outbox({sqlite_url!r}, clock=Ahead())\n",
    )  # fmt: skip

    found = findings(Command(["--app", f"{module}:outbox"])("doctor", "--json"))["clock"]

    assert found.startswith("the database's clock is 3600.")
    assert "ahead of this host's -> synchronise both with NTP" in found


def test_rows_that_nothing_will_look_at_again_are_found(command: Command, outbox: Outbox) -> None:
    id_ = command.ok("enqueue", "mail").stdout.strip()
    execute(outbox, "update message_outbox set status = 'sending', lease_until = null")

    found = findings(command("doctor", "--json"))["liveness"]

    assert f"{id_} (sending): in flight without a moment at which it is looked at again" in found


def test_messages_that_wait_too_long_are_found_unless_their_channel_is_paused(command: Command, outbox: Outbox) -> None:
    command.ok("enqueue", "mail")
    execute(outbox, "update message_outbox set next_attempt_at = next_attempt_at - 1200000")

    found = findings(command("doctor", "--json"))["waiting"]
    patient = findings(command("doctor", "--json", "--waiting-longer-than", "30m"))
    command.ok("pause", "mail")
    paused = findings(command("doctor", "--json"))

    assert "a message of channel 'mail' could have been sent 20 minutes ago -> see that a relay runs" in found
    assert (patient, paused) == ({}, {})


def test_channels_in_use_that_nobody_delivers_are_found_where_the_channels_are_known(command: Command, tmp_path: Path) -> None:
    (tmp_path / "channels.toml").write_text("[console]\n")
    command.ok("enqueue", "consol")

    unknown = findings(command("doctor", "--json"))
    known = findings(Command([*command.options, "--channels", str(tmp_path / "channels.toml")])("doctor", "--json"))

    assert unknown == {}
    assert (
        "1 active messages are for the channel 'consol', which is not registered; did you mean 'console'?" in known["channels"]
    )


def test_a_channels_file_that_cannot_be_used_is_a_finding_and_the_rest_is_examined(command: Command) -> None:
    ended = Command([*command.options, "--channels", "/nowhere/channels.toml"])("doctor", "--json")

    assert "/nowhere/channels.toml cannot be read" in findings(ended)["channels"]
    assert "liveness" in ended.data["checked"]


def test_a_channel_that_closed_itself_is_found_with_its_reason(command: Command, outbox: Outbox) -> None:
    outbox.store.close("mail", "", GateKind.NOT_READY, for_ms=60_000, reason="no password \x1b[31mset")

    found = findings(command("doctor", "--json"))["closed channels"]

    assert found.startswith("channel 'mail' closed itself (not ready): no password")
    assert "\x1b" not in command("doctor").stdout


def test_times_that_do_not_go_together_are_found(command: Command, tmp_path: Path) -> None:
    (tmp_path / "channels.toml").write_text("[console]\ntimeout = 60\nttl = 30\n")

    ended = Command([*command.options, "--channels", str(tmp_path / "channels.toml")])("doctor", "--json")

    assert "has a ttl of 30 s and a timeout of 60 s" in findings(ended)["timeouts"]


def test_secrets_that_are_missing_or_can_be_guessed_are_told_and_not_shown(command: Command, tmp_path: Path) -> None:
    weak = "whsec_" + base64.b64encode(b"hello hello hello hello hello").decode()
    good = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    (tmp_path / "channels.toml").write_text(
        f"""
[open]
kind = "webhook"
[guessable]
kind = "webhook"
secret = "{weak}"
[good]
kind = "webhook"
secret = "{good}"
[several]
kind = "webhook"
[several.destinations.crm]
url = "https://crm.example.com/"
[several.destinations.shop]
url = "https://shop.example.com/"
secret = "{good}"
"""
    )

    ended = Command([*command.options, "--channels", str(tmp_path / "channels.toml")])("doctor", "--json")

    told = [finding["problem"] for finding in ended.data["findings"] if finding["check"] == "secrets"]
    assert [problem.split(":")[0].split(" signs")[0] for problem in told] == [
        "channel 'open'", "channel 'guessable'", "channel 'several', destination 'crm'"
    ]  # fmt: skip
    assert weak not in ended.stdout


def test_the_broker_is_examined_where_one_is_configured(
    command: Command, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering = command.ok("doctor", "--json", "--broker", redis_url)
    silent = findings(command("doctor", "--json", "--broker", "redis://:s3cret@127.0.0.1:1/0"))
    monkeypatch.setenv("OUTBOX_BROKER_URL", "redis://127.0.0.1:1/0")
    from_the_environment = findings(command("doctor", "--json"))

    assert "broker" in answering.data["checked"]
    assert "does not answer" in silent["broker"]
    assert "s3cret" not in silent["broker"]
    assert "does not answer" in from_the_environment["broker"]


def test_a_broker_that_would_start_a_running_delivery_again_is_found(
    command: Command, sqlite_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = application_module(
        monkeypatch, tmp_path,
        "from celery import Celery\nfrom outbox import Outbox\nfrom outbox.integrations.celery import install\n"
        f"outbox = Outbox({sqlite_url!r})\noutbox.channel('mail')(lambda message, attempt: None)\n"
        f"celery = Celery('shop', broker={redis_url!r}, set_as_current=False)\ninstall(celery, outbox)\n",
    )  # fmt: skip
    with_celery = Command(["--app", f"{module}:outbox", "--app", f"{module}:celery"])

    sound = with_celery.ok("doctor", "--json")
    with (tmp_path / f"{module}.py").open("a") as file:
        file.write("celery.conf.broker_transport_options = {'visibility_timeout': 60}\n")
    renamed = application_module(monkeypatch, tmp_path, (tmp_path / f"{module}.py").read_text())
    found = findings(Command(["--app", f"{renamed}:outbox", "--app", f"{renamed}:celery"])("doctor", "--json"))

    assert "visibility timeout" in sound.data["checked"]
    assert found["visibility timeout"].startswith("the broker hands a task out again after 60 s, and a delivery may take")
