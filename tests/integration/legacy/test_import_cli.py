"""`outbox import-legacy`, as a person or a script runs it."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from outbox import Outbox
from outbox.lifecycle import Status
from tests.command import EXECUTABLE, Command
from tests.integration.legacy.queues import HOUR_MS, LegacyQueue, now_ms, only


@pytest.fixture
def command(sqlite_outbox: Outbox, sqlite_outbox_url: str) -> Command:
    return Command(["--database", sqlite_outbox_url])


def test_the_command_imports_and_says_what_became_of_every_file(
    sqlite_outbox: Outbox, sqlite_outbox_url: str, queue: LegacyQueue
):
    live = queue.pending()
    queue.pending(enqueuedAt=now_ms() - HOUR_MS)
    queue.dead()
    queue.file(f"{live}.json.17.tmp", "{")
    queue.file("evil\x1b[2J.json", "{}")
    ended = subprocess.run(
        [EXECUTABLE, "--database", sqlite_outbox_url, "import-legacy", queue.path], check=False, capture_output=True, text=True
    )
    assert ended.returncode == 1
    facts = dict(line.rsplit(None, 1) for line in ended.stdout.splitlines()[:7])
    assert facts == {
        "imported": "1", "expired": "1", "dead": "1", "already sent": "0", "already imported": "0", "refused": "1",
        "messages": "3",
    }  # fmt: skip
    assert "evil\\x1b[2J.json  its name is not the UUID of an entry" in ended.stdout
    assert f"{live}.json.17.tmp  an unfinished write" in ended.stdout
    assert ended.stderr == ""
    assert only(sqlite_outbox, live).status is Status.QUEUED


def test_where_all_is_well_the_exit_status_is_0(command: Command, queue: LegacyQueue):
    queue.pending()
    assert command("import-legacy", str(queue.path)).status == 0
    assert command("import-legacy", str(queue.path)).status == 0


def test_programs_get_json(command: Command, queue: LegacyQueue, tmp_path: Path):
    queue.pending(payloads=[{"text": "a"}, {"text": "b"}])
    queue.dead()
    queue.file("x.json", "")
    ended = command("import-legacy", str(queue.path), "--json", "--no-failed", "--archive", str(tmp_path / "kept"))
    assert ended.status == 1
    assert ended.data == {
        "imported": 1, "expired": 0, "dead": 0, "already_sent": 0, "already_imported": 0, "messages": 2,
        "refused": [{"name": "x.json", "reason": "its name is not the UUID of an entry"}],
        "ignored": [], "not_archived": [], "dry_run": False,
    }  # fmt: skip
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_a_dry_run_is_told_and_changes_nothing(command: Command, sqlite_outbox: Outbox, queue: LegacyQueue):
    queue.pending(enqueuedAt=now_ms() - HOUR_MS)
    ended = command("import-legacy", str(queue.path), "--dry-run", "--ttl", "2h")
    assert ended.status == 0
    assert ended.stdout.startswith("imported          1\n")
    assert ended.complaint == "a dry run: nothing was changed"
    assert sqlite_outbox.list() == []
    assert queue.is_intact()


def test_entries_are_checked_against_the_channels_that_are_configured(
    sqlite_outbox_url: str, sqlite_outbox: Outbox, queue: LegacyQueue, tmp_path: Path
):
    channels = tmp_path / "channels.toml"
    channels.write_text('[telegram]\nkind = "console"\nmax_attempts = 7\n')
    known, unknown = queue.pending(), queue.pending(channel="signal")
    ended = Command(["--database", sqlite_outbox_url, "--channels", str(channels)])("import-legacy", str(queue.path), "--json")
    assert [refused["name"] for refused in ended.data["refused"]] == [f"{unknown}.json"]
    assert "no channel 'signal' is registered" in ended.data["refused"][0]["reason"]
    assert only(sqlite_outbox, known).max_attempts == 7


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "nowhere is not a directory"),
        (["."], "the archive must be another directory"),
        ([".", "--ttl", "0"], "it must be longer than 0"),
        ([".", "--ttl", "soon"], "'soon' is not a duration"),
    ],
)
def test_what_is_used_wrongly_is_one_line_and_exit_status_2(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], complaint: str
):
    monkeypatch.chdir(tmp_path)
    ended = command("import-legacy", *arguments, "--archive", ".")
    assert ended.status == 2
    assert complaint in ended.complaint


def test_a_database_without_tables_is_told(tmp_path: Path, queue: LegacyQueue):
    (tmp_path / "empty.db").touch()
    ended = Command(["--database", f"sqlite:///{tmp_path / 'empty.db'}"])("import-legacy", str(queue.path))
    assert ended.status == 1
    assert "outbox db upgrade" in ended.complaint


def test_whoever_watches_sees_a_bar(sqlite_outbox: Outbox, sqlite_outbox_url: str, queue: LegacyQueue):
    for _ in range(30):
        queue.pending()
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [EXECUTABLE, "--database", sqlite_outbox_url, "import-legacy", queue.path],
        stdin=end, stdout=end, stderr=end, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as running:  # fmt: skip
        os.close(end)
        shown = everything_from(terminal)
    assert running.returncode == 0
    assert "importing" in shown
    assert "30/30" in shown
    assert json.dumps("imported") not in shown


def everything_from(terminal: int) -> str:
    chunks = []
    while True:
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:  # Linux's word for the end of a terminal
            chunk = b""
        if not chunk:
            os.close(terminal)
            return b"".join(chunks).decode()
        chunks.append(chunk)
