"""What was set up wrongly: one line on standard error that says what to do, and the right exit status."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from outbox import Outbox
from outbox.cli.application import application
from tests.command import Command, application_module

READING = [["status"], ["list"], ["show", "an-id"], ["retry", "an-id"], ["pause", "mail"], ["prune"], ["enqueue", "mail"]]


@pytest.fixture(autouse=True)
def _nowhere_special(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory and an environment without our variables."""
    for name in [name for name in os.environ if name.startswith("OUTBOX_") and not name.startswith("OUTBOX_TEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refused(*arguments: str, status: int) -> str:
    ended = Command()(*arguments)
    assert ended.status == status, ended
    assert ended.stdout == ""
    return ended.complaint


def test_a_database_must_be_named() -> None:
    assert refused("status", status=2) == (
        "outbox: no database is named: pass --database sqlite:///app.db, set OUTBOX_DATABASE_URL, or pass --app module:outbox"
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("app.db", "the database URL does not parse; it looks like sqlite:///app.db"),
        ("mysql://u:s3cret@h/db", "mysql is not supported: use SQLite or PostgreSQL"),
        ("postgresql://u:s3cret@h:port/db", "the port in the database URL is not a number"),
        ("nosuch+driver://h/db", "is not supported"),
    ],
)
def test_a_database_url_that_means_nothing_is_refused_without_repeating_it(url: str, said: str) -> None:
    complaint = refused("--database", url, "status", status=2)

    assert said in complaint
    assert "s3cret" not in complaint


@pytest.mark.parametrize("command", READING, ids=lambda command: command[0])
def test_a_misspelt_path_is_not_made_into_an_empty_database(command: list[str], tmp_path: Path) -> None:
    complaint = refused("--database", "sqlite:///misspelt.db", *command, status=1)

    assert complaint == "outbox: there is no database misspelt.db: check the path, or create it with `outbox db upgrade`"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", READING, ids=lambda command: command[0])
def test_a_database_that_was_not_upgraded_is_named_with_the_command_that_helps(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "app.db").touch()

    assert refused("--database", "sqlite:///app.db", *command, status=1) == (
        "outbox: the table 'message_outbox' does not exist: run `outbox db upgrade`"
    )


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "app.db").write_text("Dear diary, " * 1000)

    assert "file is not a database" in refused("--database", "sqlite:///app.db", "status", status=1)


@pytest.mark.parametrize("command", [["db", "upgrade"], ["db", "check"], ["relay", "--inline", "--once"]], ids=" ".join)
def test_a_database_of_a_newer_release_is_left_alone(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "channels.toml").write_text("[console]\n")
    with closing(Outbox("sqlite:///app.db")) as outbox:
        outbox.upgrade_schema()
        with outbox.store.connection_for_schema() as connection:
            connection.exec_driver_sql("update message_outbox_version set version_num = '9999'")

    complaint = refused("--database", "sqlite:///app.db", "--channels", "channels.toml", *command, status=1)

    assert "has schema 9999, of a newer release than this one" in complaint
    assert complaint.endswith("upgrade celery-outbox")


def test_db_check_tells_by_its_exit_status_whether_an_upgrade_is_needed(tmp_path: Path) -> None:
    (tmp_path / "app.db").touch()
    command = Command(["--database", "sqlite:///app.db"])

    said, data = command("db", "check"), command("db", "check", "--json")

    assert (said.status, data.status) == (1, 1)
    assert "has no tables yet where" in said.complaint
    assert said.complaint.endswith("run `outbox db upgrade`")
    assert (data.data["current"], data.data["is_current"]) == (None, False)


@pytest.mark.parametrize("command", [["db", "upgrade"], ["db", "check"], ["status"], ["enqueue", "mail"]], ids=" ".join)
def test_a_server_that_does_not_answer_is_named_and_the_password_is_not(command: list[str]) -> None:
    complaint = refused("--database", "postgresql://app:s3cret@127.0.0.1:1/shop", *command, status=1)

    assert "the database cannot be reached: connection failed" in complaint
    assert "s3cret" not in complaint


def test_a_directory_that_is_not_there_is_no_place_for_a_new_database() -> None:
    complaint = refused("--database", "sqlite:////nowhere/at/all/app.db", "db", "upgrade", status=1)

    assert complaint == "outbox: the database cannot be reached: unable to open database file"


@pytest.mark.postgres
def test_a_role_that_may_not_write_is_told_so(postgres_url: str) -> None:
    Command(["--database", postgres_url]).ok("db", "upgrade")

    complaint = refused(
        "--database", f"{postgres_url}?options=-c%20default_transaction_read_only%3Don", "enqueue", "mail", status=1
    )

    assert "read-only" in complaint


@pytest.mark.postgres
def test_what_only_the_database_refuses_is_one_line_too(postgres_url: str) -> None:
    Command(["--database", postgres_url]).ok("db", "upgrade")

    complaint = refused("--database", postgres_url, "resume", "x" * 100, "--target", "y\x00z", status=1)

    assert complaint.startswith("outbox: the database failed: ")


def test_an_interruption_is_told_without_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = application_module(monkeypatch, tmp_path, "raise KeyboardInterrupt\n")

    ended = Command()("--app", f"{module}:outbox", "status")

    assert (ended.status, ended.stderr.strip()) == (130, "outbox: stopped")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "channels.toml cannot be read: No such file or directory"),
        (b"[webhook\n", "channels.toml is not TOML"),
        (b"# \xff\n", "channels.toml is not TOML"),
        (b"x = " + b"[" * 5000, "channels.toml is not TOML"),
        (b"", "configures no channel; add a table such as [webhook]"),
        (b"timeout = 3\n", "'timeout' stands outside of a channel's table"),
        (b"[webhok]\n", "there is no adapter 'webhok'; did you mean 'webhook'?"),
        (b"[console]\ntimeuot = 3\n", "has no option 'timeuot'; did you mean 'timeout'?"),
        (b'[webhook]\nsecret = { from_env = "HOOK_KEY" }\n', "secret is to come from HOOK_KEY, which is not set"),
        (b'[webhook]\nsecret = "geheim!"\n', "channel 'webhook'"),
    ],
)
@pytest.mark.parametrize("command", [["enqueue", "console"], ["relay", "--inline", "--once"]], ids=" ".join)
def test_a_channels_file_that_cannot_be_used_is_named_with_the_reason(
    tmp_path: Path, command: list[str], content: bytes | None, said: str
) -> None:
    Command(["--database", "sqlite:///app.db"]).ok("db", "upgrade")
    if content is not None:
        (tmp_path / "channels.toml").write_bytes(content)

    complaint = refused("--database", "sqlite:///app.db", "--channels", "channels.toml", *command, status=2)

    assert said in complaint
    assert "channels.toml" in complaint
    assert "geheim!" not in complaint


def test_reading_does_not_need_the_channels_file_to_be_right(tmp_path: Path) -> None:
    command = Command(["--database", "sqlite:///app.db", "--channels", "missing.toml"])
    command.ok("db", "upgrade")

    for reading in (["status"], ["list"], ["pause", "mail"]):
        command.ok(*reading)


def test_variables_may_stand_in_an_env_file_and_the_process_s_own_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(
        "OUTBOX_DATABASE_URL=sqlite:///one.db\nOUTBOX_CHANNELS=channels.toml\nHOOK_KEY=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"
    )
    (tmp_path / "channels.toml").write_text('[webhook]\nsecret = { from_env = "HOOK_KEY" }\n')

    Command().ok("db", "upgrade")
    Command().ok("enqueue", "webhook", "--target", "https://example.com/")
    monkeypatch.setenv("OUTBOX_DATABASE_URL", "sqlite:///two.db")
    Command().ok("db", "upgrade")
    Command(["--database", "sqlite:///three.db"]).ok("db", "upgrade")

    assert {path.name for path in tmp_path.glob("*.db")} == {"one.db", "two.db", "three.db"}


def test_an_env_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe\n")

    assert refused("status", status=2).startswith("outbox: .env cannot be read: ")


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("shop", "is not of the form module:attribute, such as shop.messages:outbox"),
        (":outbox", "is not of the form module:attribute"),
        ("no_such_shop:outbox", "there is no such module here or in the Python path"),
        ("os:outbox", "the module os has no 'outbox'"),
        ("{module}:outbx", "has no 'outbx'; did you mean 'outbox'?"),
        ("{module}:number", "is a int; it must be an Outbox, a SQLAlchemy engine or a Celery application"),
        ("{failing}:outbox", "its import failed with ZeroDivisionError: division by zero"),
        ("{needing}:outbox", "its import failed with ModuleNotFoundError: No module named 'no_such_dependency'"),
    ],
)
def test_an_application_that_cannot_be_loaded_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: str, said: str
) -> None:
    module = application_module(monkeypatch, tmp_path, "from outbox import Outbox\noutbox = Outbox('sqlite://')\nnumber = 1\n")
    failing = application_module(monkeypatch, tmp_path, "1 / 0\n")
    needing = application_module(monkeypatch, tmp_path, "import no_such_dependency\n")

    assert said in refused("--app", app.format(module=module, failing=failing, needing=needing), "status", status=2)


@pytest.mark.parametrize(
    ("option", "value"), [("--database", "sqlite:///other.db"), ("--table", "other"), ("--channels", "other.toml")]
)
def test_an_application_s_outbox_is_not_mixed_with_options_that_it_would_ignore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str
) -> None:
    module = application_module(monkeypatch, tmp_path, "from outbox import Outbox\noutbox = Outbox('sqlite:///app.db')\n")

    complaint = refused("--app", f"{module}:outbox", option, value, "status", status=2)

    assert f"the application's Outbox brings its own settings: leave out {option}, or --app" in complaint


def test_an_application_s_engine_is_database_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = application_module(
        monkeypatch, tmp_path, "from sqlalchemy import create_engine\nengine = create_engine('sqlite:///app.db')\n"
    )

    assert Command(["--app", f"{module}:engine"]).ok("db", "upgrade").stdout.startswith("schema ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lst"], "No such command 'lst'"),
        (["list", "--sattus", "queued"], "No such option"),
        (["list", "--limit", "0"], "0 is not in the range"),
        (["list", "--limit", "many"], "'many' is not a valid integer"),
        (["list", "--status", "sent"], "'sent' is not one of 'queued'"),
        (["show"], "Missing argument 'ID' (see `outbox show --help`)"),
        (["resolve", "an-id"], "say whether they were sent: --sent or --not-sent"),
        (["resolve", "--sent"], "name the messages either by ID or by --status"),
        (["relay", "--json"], "--json reports one pass: add --once"),
        (["relay", "--inline", "--broker", "redis://h"], "--inline needs no --broker"),
        (["relay", "--interval", "0"], "it must be longer than 0"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_help(arguments: list[str], said: str) -> None:
    complaint = refused("--database", "sqlite:///app.db", *arguments, status=2)

    assert complaint.startswith("outbox: ")
    assert said in complaint
    assert "--help`)" in complaint


def test_an_argument_that_is_not_text_is_refused_before_a_database_chokes_on_it() -> None:
    complaint = refused("--database", "sqlite:///app.db", "pause", "mail", "--reason", "caf\udce9", status=2)

    assert complaint == r"outbox: the argument caf\udce9 is not UTF-8 text"


def test_without_a_command_the_help_is_shown() -> None:
    ended = Command()()

    assert ended.status == 2
    assert "Commands:" in ended.stderr


def test_every_command_has_help_with_an_example() -> None:
    for name, command in application.commands.items():
        leaves = command.commands.values() if hasattr(command, "commands") else [command]
        for leaf in leaves:
            assert leaf.help, name
            assert "outbox " in (leaf.epilog or ""), name


def test_without_celery_a_broker_is_refused_with_the_extra_that_it_needs(tmp_path: Path) -> None:
    (tmp_path / "channels.toml").write_text("[console]\n")
    code = "import sys; sys.modules['celery'] = None; from outbox.cli import main; main()"
    arguments = ["--database", "sqlite:///app.db", "--channels", "channels.toml", "relay", "--broker", "redis://127.0.0.1"]
    Command(["--database", "sqlite:///app.db"]).ok("db", "upgrade")

    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr == "outbox: the integration with Celery needs celery: pip install 'celery-outbox[celery]'\n"


@pytest.mark.parametrize("missing", ["click", "rich", "humanize", "dotenv"])
def test_without_the_extra_the_command_says_which_one_it_needs(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from outbox.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr == f"outbox: the command line needs {missing}: pip install 'celery-outbox[cli]'\n"
