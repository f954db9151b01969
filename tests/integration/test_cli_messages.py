"""`outbox db`, `enqueue`, `status`, `list` and `show`, on both databases."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from outbox import Outbox
from outbox.errors import PermanentFailure
from outbox.message import Attempt, Message
from tests.command import Command


@pytest.fixture
def outbox_command(database_url: str) -> Command:
    command = Command(["--database", database_url])
    command.ok("db", "upgrade")
    return command


@pytest.fixture
def outbox(outbox_command: Command, database_url: str) -> Iterator[Outbox]:
    with closing(Outbox(database_url)) as outbox:
        yield outbox


def fail_all(outbox: Outbox, error: str) -> None:
    @outbox.channel("mail")
    def refuse(_message: Message, _attempt: Attempt) -> None:
        raise PermanentFailure(error)

    outbox.drain()


def test_the_schema_is_created_once_and_then_there_is_nothing_to_do(database_url: str) -> None:
    command = Command(["--database", database_url])

    first, second = command.ok("db", "upgrade"), command.ok("db", "upgrade")

    assert first.stdout == "schema 0003: upgraded from an empty database\n"
    assert second.stdout == "schema 0003: nothing to do\n"
    assert command.ok("db", "check").stdout == "schema 0003: current\n"
    assert command.ok("db", "check", "--json").data == {
        "current": "0003", "wanted": "0003", "known": True, "is_current": True
    }  # fmt: skip
    assert command.ok("db", "upgrade", "--json").data == {"before": "0003", "after": "0003"}


def test_another_prefix_makes_tables_of_its_own(outbox_command: Command) -> None:
    other = Command([*outbox_command.options, "--table", "second"])

    assert "the table 'second' does not exist" in other("status").complaint
    other.ok("db", "upgrade")
    other.ok("enqueue", "mail")

    assert other.ok("status", "--json").data["channels"][0]["counts"]["queued"] == 1
    assert outbox_command.ok("status", "--json").data["channels"] == []


def test_enqueue_commits_the_message_with_every_option(outbox_command: Command, outbox: Outbox) -> None:
    ended = outbox_command.ok(
        "enqueue", "mail", "--target", "a@example.com", "--payload", '{"n": 42, "s": "42", "none": null}',
        "--key", "order-1", "--ordering-key", "orders", "--priority", "-3", "--delay", "10m", "--expires-in", "1h",
        "--max-attempts", "2", "--account", "shop", "--turn", "t1", "--kind", "block",
        "--header", "trace=a=b", "--header", "empty=",
    )  # fmt: skip

    message = outbox.get(ended.stdout.strip())
    assert ended.stderr == "created\n"
    assert message.payload == {"n": 42, "s": "42", "none": None}
    assert message.headers == {"trace": "a=b", "empty": ""}
    assert (message.channel, message.target, message.account_id, message.turn_id) == ("mail", "a@example.com", "shop", "t1")
    assert (message.idempotency_key, message.ordering_key, message.priority) == ("order-1", "orders", -3)
    assert (message.max_attempts, message.dispatch_kind) == (2, "block")
    assert message.next_attempt_at - message.queued_at == 600_000


def test_a_second_enqueue_with_the_same_key_names_the_first_message(outbox_command: Command) -> None:
    first = outbox_command.ok("enqueue", "mail", "--key", "k").stdout.strip()

    again = outbox_command.ok("enqueue", "mail", "--key", "k")

    assert again.stdout.strip() == first
    assert again.stderr.startswith("not created")
    assert outbox_command.ok("enqueue", "mail", "--key", "k", "--json").data == {"id": first, "created": False}


@pytest.mark.parametrize(
    "content", [b'{"text": "gr\xc3\xbc\xc3\x9fe"}', '\ufeff{"text": "grüße"}'.encode(), '{"text": "grüße"}'.encode("utf-16")]
)
def test_a_payload_comes_from_a_file_or_from_standard_input(
    outbox_command: Command, outbox: Outbox, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "payload.json").write_bytes(content)

    from_file = outbox_command.ok("enqueue", "mail", "--payload-file", str(tmp_path / "payload.json"))
    from_stdin = outbox_command.ok("enqueue", "mail", "--payload-file", "-", stdin=content)

    for ended in (from_file, from_stdin):
        assert outbox.get(ended.stdout.strip()).payload == {"text": "grüße"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--payload", "hello"], "--payload is not JSON (Expecting value: line 1 column 1 (char 0)); a text is written with"),
        (["--payload", "[" * 100_000], "--payload is nested too deeply"),
        (["--payload", "[" * 500 + "]" * 500], "is nested deeper than 100 levels"),
        (["--payload", "NaN"], "$ is nan, which JSON cannot hold"),
        (["--payload", "1" * 5000], "is not JSON"),
        (["--payload", '{"$outbox": 1}'], "has the key '$outbox', which is reserved"),
        (["--payload", json.dumps("x" * 300_000)], "the limit is 262144"),
        (["--payload", "1", "--payload-file", "-"], "exclude each other"),
        (["--payload-file", "/nowhere/payload.json"], "'/nowhere/payload.json': No such file or directory"),
        (["--header", "novalue"], "--header novalue is not of the form NAME=VALUE"),
        (["--delay", "-5"], "'-5' is not a duration"),
        (["--expires-in", "0"], "it must be longer than 0"),
        (["--priority", "101"], "priority must be a whole number from -100 to 100, not 101"),
        (["--max-attempts", "0"], "max_attempts must be a whole number from 1"),
        (["--kind", "other"], "'other' is not one of 'final', 'block', 'tool'"),
        (["--key", ""], "idempotency_key is empty; leave it out instead"),
        (["--target", "x" * 5000], "the limit is"),
    ],
)
def test_what_cannot_be_enqueued_is_refused_in_one_line_and_nothing_is_written(
    sqlite_url: str, arguments: list[str], said: str
) -> None:
    command = Command(["--database", sqlite_url])
    command.ok("db", "upgrade")

    ended = command("enqueue", "mail", *arguments)

    assert ended.status == 2
    assert said in ended.complaint
    assert command.ok("list", "--json").data == []


def test_an_endless_payload_is_not_read_to_its_end(sqlite_url: str) -> None:
    command = Command(["--database", sqlite_url])
    command.ok("db", "upgrade")

    assert "is larger than 16 MiB" in command("enqueue", "mail", "--payload-file", "/dev/zero").complaint


def test_a_channel_that_is_configured_checks_its_messages_before_they_are_stored(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "channels.toml").write_text("[console]\n[webhook]\n")
    command = Command(["--database", sqlite_url, "--channels", str(tmp_path / "channels.toml")])
    command.ok("db", "upgrade")

    assert "no channel 'consol' is registered; did you mean 'console'?" in command("enqueue", "consol").complaint
    assert "plain http is refused" in command("enqueue", "webhook", "--target", "http://example.com/").complaint
    assert command("enqueue", "webhook", "--target", "http://example.com/").status == 2
    assert command.ok("list", "--json").data == []


def test_list_shows_the_newest_first_and_goes_on_where_it_ended(outbox_command: Command) -> None:
    ids = [outbox_command.ok("enqueue", "mail").stdout.strip() for _ in range(5)]

    first = outbox_command.ok("list", "--limit", "2")
    listed = outbox_command.ok("list", "--limit", "2", "--json").data
    rest = outbox_command.ok("list", "--before", str(listed[-1]["seq"]), "--json").data

    assert [message["id"] for message in listed + rest] == ids[::-1]
    assert first.stderr == f"there may be more: --before {listed[-1]['seq']}\n"
    assert [line.split()[1] for line in first.stdout.splitlines()[1:]] == ids[:-3:-1]


def test_list_filters_by_status_channel_target_and_turn(outbox_command: Command, outbox: Outbox) -> None:
    ended = {
        (channel, target, turn): outbox_command.ok(
            "enqueue", channel, "--target", target, "--turn", turn, "--payload", "1"
        ).stdout.strip()
        for channel in ("mail", "sms") for target in ("a", "b") for turn in ("t1", "t2")
    }  # fmt: skip
    fail_all(outbox, "user unknown")

    def listed(*filters: str) -> set[str]:
        return {message["id"] for message in outbox_command.ok("list", *filters, "--json").data}

    assert listed("--channel", "mail") == {id_ for key, id_ in ended.items() if key[0] == "mail"}
    assert listed("--target", "a", "--turn", "t2") == {id_ for key, id_ in ended.items() if key[1:] == ("a", "t2")}
    assert listed("--status", "failed_terminal") == listed("--channel", "mail")
    assert listed("--status", "queued", "--channel", "mail") == set()


def test_a_payload_is_shown_only_when_it_is_asked_for(outbox_command: Command) -> None:
    id_ = outbox_command.ok("enqueue", "mail", "--payload", '{"pin": "4711"}', "--header", "h=geheim").stdout.strip()

    silent = [outbox_command.ok("show", id_), outbox_command.ok("show", id_, "--json"), outbox_command.ok("list", "--json")]
    spoken = outbox_command.ok("show", id_, "--payload", "--json").data

    assert all("4711" not in ended.stdout and "geheim" not in ended.stdout for ended in silent)
    assert (spoken["payload"], spoken["headers"]) == ({"pin": "4711"}, {"h": "geheim"})
    assert "4711" in outbox_command.ok("show", id_, "--payload").stdout


def test_show_tells_the_attempts_and_what_operators_did(outbox_command: Command, outbox: Outbox) -> None:
    id_ = outbox_command.ok("enqueue", "mail", "--payload", "1").stdout.strip()
    fail_all(outbox, "user\n\x1b[31munknown\x1b[0m")
    outbox_command.ok("retry", id_, "--actor", "ann", "--reason", "address corrected")

    shown = outbox_command.ok("show", id_).stdout
    facts = outbox_command.ok("show", id_, "--json").data

    assert r"user\n\x1b[31munknown\x1b[0m" in shown
    assert "\x1b" not in shown
    assert "address corrected" in shown
    assert facts["status"] == "queued"
    assert facts["queued_at"].endswith("Z")
    (attempt,) = facts["attempts"]
    assert (attempt["number"], attempt["outcome"], attempt["error_class"]) == (1, "rejected", "permanent")
    (operation,) = facts["operations"]
    assert (operation["action"], operation["from_status"], operation["actor"], operation["reason"]) == (
        "replay", "failed_terminal", "ann", "address corrected"
    )  # fmt: skip


def test_a_message_that_is_not_kept_is_named(outbox_command: Command) -> None:
    ended = outbox_command("show", "nobody")

    assert ended.status == 1
    assert ended.complaint == "outbox: no message 'nobody' is kept"


def test_hostile_texts_in_every_column_reach_no_terminal_unescaped(outbox_command: Command, outbox: Outbox) -> None:
    outbox_command.ok("enqueue", "mail", "--target", "\x1b]0;owned\x07 [bold]x[/bold]", "--turn", "\u202eturn")
    fail_all(outbox, "\x1b[2Jgone\nstatus queued")

    shown = outbox_command.ok("list").stdout

    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert r"\x1b]0;owned\x07 [bold]x[/bold]" in shown
    assert len(shown.splitlines()) == 2


def test_a_row_that_others_made_corrupt_is_still_shown(sqlite_url: str) -> None:
    command = Command(["--database", sqlite_url])
    command.ok("db", "upgrade")
    id_ = command.ok("enqueue", "mail", "--payload", "1").stdout.strip()
    with closing(Outbox(sqlite_url)) as outbox, outbox.store.connection_for_schema() as connection:
        connection.exec_driver_sql("update message_outbox set payload = '{broken', queued_at = 999999999999999999")

    assert command.ok("show", id_, "--payload", "--json").data["payload"] == "{broken"
    assert "999999999999999999 ms" in command.ok("show", id_).stdout


def test_status_counts_by_channel_and_tells_what_is_closed(outbox_command: Command, outbox: Outbox) -> None:
    assert outbox_command.ok("status").stdout == "no messages\n"
    for channel in ("mail", "mail", "sms"):
        outbox_command.ok("enqueue", channel, "--payload", "1")
    fail_all(outbox, "user unknown")
    outbox_command.ok("pause", "sms", "--for", "1h", "--reason", "maintenance", "--actor", "ann")
    outbox_command.ok("pause", "mail", "--target", "a@example.com")

    facts = outbox_command.ok("status", "--json").data
    shown = outbox_command.ok("status").stdout

    counts = {channel["channel"]: channel["counts"] for channel in facts["channels"]}
    assert (counts["mail"]["failed_terminal"], counts["mail"]["queued"], counts["sms"]["queued"]) == (2, 0, 1)
    assert {channel["channel"]: channel["oldest_due_age_ms"] is None for channel in facts["channels"]} == {
        "mail": True, "sms": False
    }  # fmt: skip
    gates = {(gate["channel"], gate["target"]): gate for gate in facts["gates"]}
    assert gates["sms", ""]["reason"] == "maintenance"
    assert gates["mail", "a@example.com"]["closed_until"] is None
    assert shown.split()[:3] == ["channel", "queued", "failed_terminal"]
    assert "maintenance" in shown
