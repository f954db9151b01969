"""`outbox watch`: on a terminal, and a line for each look for programs."""

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from outbox import NewMessage, Outbox
from outbox.cli import watching
from outbox.lifecycle import Status
from tests.command import EXECUTABLE, Command

WAIT_S = 60.0
SOON = ("--interval", "50ms")


class Watching:
    """The command as it watches, on a terminal or into a pipe, until a signal ends it."""

    def __init__(self, command: Command, *options: str, terminal: bool) -> None:
        self._reading, writing = pty.openpty() if terminal else os.pipe()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200", "LINES": "50"}
        arguments = [EXECUTABLE, *command.options, "watch", *options]
        self._process = subprocess.Popen(arguments, stdout=writing, stderr=subprocess.PIPE, env=environment)
        os.close(writing)
        os.set_blocking(self._reading, False)
        self.seen = ""
        self.said = ""

    def await_text(self, text: str) -> None:
        """Wait until it is shown, in what was not looked at before."""
        deadline = time.monotonic() + WAIT_S
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} was never shown:\n{self.seen}"
            assert self._process.poll() is None, f"it ended:\n{self.seen}"
            self._read()
            time.sleep(0.01)
        self.seen = self.seen[self.seen.index(text) :]

    def end(self, by: signal.Signals = signal.SIGINT) -> int:
        """The exit status after a signal."""
        self._process.send_signal(by)
        _out, said = self._process.communicate(timeout=WAIT_S)
        self.said = said.decode()
        self._read()
        return self._process.returncode

    def close(self) -> None:
        """Whatever happened, the process is over."""
        with self._process:
            self._process.kill()
        os.close(self._reading)

    def _read(self) -> None:
        try:
            while part := os.read(self._reading, 65_536):
                self.seen += part.decode()
        except OSError:  # nothing more for now, or nobody writes to the terminal any more
            return


@pytest.fixture
def command(sqlite_url: str) -> Command:
    command = Command(["--database", sqlite_url])
    command.ok("db", "upgrade")
    return command


@pytest.fixture
def outbox(command: Command, sqlite_url: str) -> Iterator[Outbox]:
    with closing(Outbox(sqlite_url)) as outbox:
        outbox.channel("console")(lambda _message, _attempt: None)
        yield outbox


@pytest.fixture
def on_terminal(command: Command) -> Iterator[Watching]:
    watching = Watching(command, *SOON, terminal=True)
    yield watching
    watching.close()


@pytest.fixture
def in_lines(command: Command) -> Iterator[Watching]:
    watching = Watching(command, "--json", *SOON, terminal=False)
    yield watching
    watching.close()


def enqueue(outbox: Outbox, count: int = 1) -> None:
    with outbox.store.transaction() as tx:
        outbox.enqueue_many(tx.connection, [NewMessage(channel="console", payload=1)] * count)


def rename(outbox: Outbox, table: str, to: str) -> None:
    with outbox.store.transaction() as tx:
        tx.connection.exec_driver_sql(f"alter table {table} rename to {to}")


def test_messages_are_seen_to_come_and_go(outbox: Outbox, on_terminal: Watching) -> None:
    on_terminal.await_text("no messages")

    enqueue(outbox, 3)
    on_terminal.await_text("+3")
    outbox.drain()
    on_terminal.await_text("delivered")

    assert on_terminal.end() == 0


def test_what_is_closed_is_shown_and_can_steer_no_terminal(outbox: Outbox, on_terminal: Watching) -> None:
    outbox.pause("console", reason="maintenance \x1b]0;owned\x07")

    on_terminal.await_text("closed")
    on_terminal.await_text(r"maintenance \x1b]0;owned\x07")

    assert on_terminal.end() == 0
    assert "\x07" not in on_terminal.seen


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_as_asked_and_leaves_the_terminal_as_it_was(on_terminal: Watching, by: signal.Signals) -> None:
    on_terminal.await_text("no messages")

    assert on_terminal.end(by) == 0

    assert on_terminal.seen.rfind("\x1b[?25h") > on_terminal.seen.rfind("\x1b[?25l")  # the cursor is back
    assert on_terminal.said == ""


def test_each_look_is_a_line_of_json(outbox: Outbox, in_lines: Watching) -> None:
    in_lines.await_text("\n")
    enqueue(outbox, 2)
    in_lines.await_text('"queued": 2')
    outbox.drain()
    in_lines.await_text('"delivered": 2')
    in_lines.await_text("\n")

    assert in_lines.end() == 0
    looks = [json.loads(line) for line in in_lines.seen.splitlines() if line]
    assert all(look["gates"] == [] and look["at"].endswith("Z") for look in looks)
    assert [look["channels"][0]["counts"]["queued"] for look in looks] == [0] * len(looks)
    assert in_lines.said == ""


def test_a_database_that_is_away_for_a_while_is_told_and_waited_for(outbox: Outbox, in_lines: Watching) -> None:
    in_lines.await_text('"channels"')

    rename(outbox, "message_outbox", "elsewhere")
    in_lines.await_text('{"error": ')
    rename(outbox, "elsewhere", "message_outbox")
    in_lines.await_text('"channels"')

    assert in_lines.end() == 0


def test_a_database_that_is_away_for_a_while_leaves_the_last_look_on_the_terminal(
    outbox: Outbox, on_terminal: Watching
) -> None:
    enqueue(outbox, 3)
    on_terminal.await_text("queued")

    rename(outbox, "message_outbox", "elsewhere")
    on_terminal.await_text("outbox db upgrade")  # what to do about tables that are absent
    on_terminal.await_text("queued")
    rename(outbox, "elsewhere", "message_outbox")

    assert on_terminal.end() == 0


def test_without_a_terminal_it_says_what_to_add(command: Command) -> None:
    ended = command("watch")

    assert ended.status == 2
    assert "add --json" in ended.complaint


def test_a_database_that_was_never_there_is_an_error_in_one_line() -> None:
    ended = Command(["--database", "sqlite:///nowhere.db"])("watch", "--json")

    assert ended.status == 1
    assert "there is no database nowhere.db" in ended.complaint


def test_a_count_stops_where_it_would_cost_too_much_and_says_so(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MOST", 2)
    enqueue(outbox, 3)

    seen: Any = watching.look(outbox.store).counts["console"][Status.QUEUED]

    assert (seen.rows, seen.at_least) == (2, True)
