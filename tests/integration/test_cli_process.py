"""Every command as users run it: a process of its own, with pipes that break and terminals that lack characters."""

import os
import pty
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from outbox import NewMessage, Outbox
from tests.command import EXECUTABLE, Command


@pytest.fixture
def command(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "channels.toml").write_text("[console]\n")
    return Command(["--database", sqlite_url, "--channels", "channels.toml"])


@pytest.mark.timeout(300)  # a Python is started for each line
def test_an_operator_s_round_through_every_command(command: Command) -> None:
    assert command.process("db", "upgrade").status == 0
    assert command.process("db", "check").status == 0
    id_ = command.process("enqueue", "console", "--payload-file", "-", stdin='"hello"').stdout.strip()
    assert command.process("list", "--json").data[0]["id"] == id_
    assert command.process("pause", "console", "--for", "1h").status == 0
    assert "console" in command.process("status").stdout
    assert command.process("resume", "console").status == 0
    assert command.process("cancel", id_, "--reason", "a trial").status == 0
    assert command.process("retry", id_).status == 0
    assert "'hello'" in command.process("relay", "--inline", "--once").stdout
    assert command.process("resolve", id_, "--sent").status == 1
    assert command.process("doctor").status == 0
    assert command.process("prune", "--delivered-older-than", "0", "--failed-older-than", "0", "--json").data["delivered"] == 1
    assert command.process("show", id_).complaint == f"outbox: no message '{id_}' is kept"


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"]], ids=" ".join)
@pytest.mark.parametrize("messages", [1, 200], ids=["which fits a buffer", "which does not"])
def test_output_for_a_reader_that_has_gone_away_is_no_error(
    command: Command, sqlite_url: str, arguments: list[str], messages: int
) -> None:
    command.ok("db", "upgrade")
    with closing(Outbox(sqlite_url)) as outbox, outbox.store.connection_for_schema() as connection:
        outbox.enqueue_many(connection, [NewMessage(channel="console", target="x" * 900)] * messages)

    process = command.start(*arguments, "--limit", "500")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    with process.stderr:
        said = process.stderr.read()
    assert (process.wait(30), said) == (1, "")


def test_a_terminal_that_lacks_a_character_shows_its_escape(command: Command) -> None:
    command.ok("db", "upgrade")
    id_ = command.ok("enqueue", "console", "--target", "Grüße").stdout.strip()

    shown = command.process("show", id_, PYTHONIOENCODING="ascii", NO_COLOR="1")

    assert shown.status == 0
    assert r"Gr\xfc\xdfe" in shown.stdout


def test_on_a_terminal_nothing_that_a_message_holds_is_obeyed(command: Command) -> None:
    command.ok("db", "upgrade")
    command.ok("enqueue", "console", "--target", "\x1b]0;owned\x07\x1b[2J\x9b31m[red]x[/red]")
    parent, child = pty.openpty()
    try:
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
        process = subprocess.Popen([EXECUTABLE, *command.options, "list"], stdout=child, env=environment)
        os.close(child)
        shown = b""
        while True:
            try:
                part = os.read(parent, 4096)
            except OSError:  # Linux's way to say that the other side has closed the terminal
                break
            shown += part
            if not part:
                break
        assert process.wait(30) == 0
    finally:
        os.close(parent)

    text = shown.decode()
    assert r"\x1b]0;owned\x07\x1b[2J\x9b31m[red]x[/red]" in text.replace("\r\n", "")
    assert "\x07" not in text
    assert "\x9b" not in text
    assert "\x1b]" not in text
    assert "\x1b[2J" not in text


def test_an_argument_that_is_not_utf_8_is_refused_in_one_line(command: Command) -> None:
    refused = command.process("enqueue", "console", "--target", b"caf\xe9")

    assert refused.status == 2
    assert refused.complaint == r"outbox: the argument caf\udce9 is not UTF-8 text"


def test_an_application_in_the_working_directory_is_found(tmp_path: Path, command: Command) -> None:
    (tmp_path / "shop.py").write_text("from outbox import Outbox\noutbox = Outbox('sqlite:///shop.db')\n")

    assert Command(["--app", "shop:outbox"]).process("db", "upgrade").status == 0
    assert (tmp_path / "shop.db").exists()
