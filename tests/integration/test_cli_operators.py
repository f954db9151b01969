"""`outbox retry`, `cancel`, `pause`, `resume` and `prune`."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from outbox import Outbox
from outbox.cli import operators
from outbox.errors import PermanentFailure
from outbox.message import Attempt, Message
from outbox.store.records import OperatorResult
from outbox.store.sqlstore import SQLStore
from tests.command import Command, application_module


@pytest.fixture
def outbox_command(database_url: str) -> Command:
    command = Command(["--database", database_url])
    command.ok("db", "upgrade")
    return command


@pytest.fixture
def outbox(outbox_command: Command, database_url: str) -> Iterator[Outbox]:
    """An outbox whose channel `dead` refuses everything for good, and whose `live` takes everything."""
    with closing(Outbox(database_url)) as outbox:

        @outbox.channel("dead")
        def refuse(_message: Message, _attempt: Attempt) -> None:
            raise PermanentFailure("user unknown")

        outbox.channel("live")(lambda _message, _attempt: None)
        yield outbox


def enqueued(command: Command, channel: str, *options: str) -> str:
    return command.ok("enqueue", channel, "--payload", "1", *options).stdout.strip()


def age(outbox: Outbox, days: float) -> None:
    """Let everything that has ended have ended that much longer ago."""
    with outbox.store.connection_for_schema() as connection:
        connection.exec_driver_sql(f"update message_outbox set completed_at = completed_at - {round(days * 86_400_000)}")


def test_named_messages_are_retried_and_each_refusal_is_told_with_its_reason(outbox_command: Command, outbox: Outbox) -> None:
    dead = enqueued(outbox_command, "dead")
    tool = enqueued(outbox_command, "dead", "--kind", "tool")
    outbox.drain()
    waiting = enqueued(outbox_command, "live", "--delay", "1h")

    ended = outbox_command("retry", dead, tool, waiting, "nobody", dead)

    assert ended.status == 1
    assert ended.stdout == "1 message retried\n"
    assert sorted(ended.stderr.splitlines()) == sorted([
        f"refused: {waiting}: it is queued, so it will be tried anyway",
        f"refused: {tool}: it is a tool message, which is sent once, live, or never",
        "refused: nobody: no message with that id is kept",
    ])  # fmt: skip
    assert outbox.get(dead).status == "queued"


def test_refusals_are_data_too(outbox_command: Command, outbox: Outbox) -> None:
    dead = enqueued(outbox_command, "dead")
    outbox.drain()

    ended = outbox_command("retry", dead, "nobody", "--json")

    assert ended.status == 1
    assert ended.data == {
        "changed": [dead], "refused": [{"id": "nobody", "reason": "no message with that id is kept"}]
    }  # fmt: skip
    assert ended.stderr == ""


def test_a_filter_means_dead_letters_unless_a_status_is_named(outbox_command: Command, outbox: Outbox) -> None:
    delivered, dead = enqueued(outbox_command, "live"), enqueued(outbox_command, "dead")
    for channel in ("live", "dead"):
        enqueued(outbox_command, channel, "--turn", "other", "--delay", "1h")
    outbox.drain()

    first = outbox_command.ok("retry", "--channel", "live", "--yes")
    second = outbox_command.ok("retry", "--channel", "dead", "--yes")
    third = outbox_command.ok("retry", "--channel", "live", "--status", "delivered", "--yes")

    assert [ended.stdout for ended in (first, second, third)] == [
        "0 messages retried\n", "1 message retried\n", "1 message retried\n"
    ]  # fmt: skip
    assert {outbox.get(id_).status for id_ in (delivered, dead)} == {"queued"}


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_what_a_filter_matches_is_changed_only_after_a_yes(outbox_command: Command, outbox: Outbox, answer: str) -> None:
    dead = enqueued(outbox_command, "dead")
    outbox.drain()

    refused = outbox_command("retry", "--channel", "dead", stdin=answer)

    assert refused.status == 1
    assert "retry 1 message? [y/N]" in refused.stderr
    assert "nothing was changed; pass --yes" in refused.stderr
    assert outbox.get(dead).status == "failed_terminal"

    assert outbox_command("retry", "--channel", "dead", stdin="y\n").status == 0
    assert outbox.get(dead).status == "queued"


def test_a_dry_run_tells_the_same_and_changes_nothing(outbox_command: Command, outbox: Outbox) -> None:
    dead, live = enqueued(outbox_command, "dead"), enqueued(outbox_command, "live", "--delay", "1h")
    outbox.drain()

    by_filter = outbox_command.ok("retry", "--channel", "dead", "--dry-run")
    by_id = outbox_command("retry", dead, live, "--dry-run", "--json")
    cancelling = outbox_command.ok("cancel", "--channel", "live", "--dry-run", "--json")

    assert by_filter.stdout == "1 message would be retried\n"
    assert by_id.status == 1
    assert by_id.data["changed"] == [dead]
    assert [refusal["id"] for refusal in by_id.data["refused"]] == [live]
    assert cancelling.data == {"changed": [live], "refused": []}
    assert (outbox.get(dead).status, outbox.get(live).status) == ("failed_terminal", "queued")
    assert outbox.store.operations(dead) == []


def test_cancel_by_filter_withdraws_what_has_not_ended_and_records_who_and_why(outbox_command: Command, outbox: Outbox) -> None:
    delivered = enqueued(outbox_command, "live", "--target", "a")
    outbox.drain()
    waiting = [enqueued(outbox_command, "live", "--target", target, "--delay", "1h") for target in ("a", "b")]

    ended = outbox_command.ok("cancel", "--target", "a", "--yes", "--actor", "ann", "--reason", "asked us to stop")

    assert ended.stdout == "1 message cancelled\n"
    assert [outbox.get(id_).status for id_ in (delivered, *waiting)] == ["delivered", "cancelled", "queued"]
    assert outbox.get(waiting[0]).terminal_reason == "asked us to stop"
    (operation,) = outbox.store.operations(waiting[0])
    assert (operation.action, operation.actor, operation.reason) == ("cancel", "ann", "asked us to stop")


def test_more_messages_than_one_transaction_takes_are_all_changed(
    outbox_command: Command, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "CHUNK", 3)
    ids = {enqueued(outbox_command, "live", "--delay", "1h") for _ in range(7)}

    ended = outbox_command.ok("cancel", "--channel", "live", "--yes", "--json")

    assert set(ended.data["changed"]) == ids
    assert {outbox.get(id_).status for id_ in ids} == {"cancelled"}


def test_a_row_that_changed_since_it_was_counted_is_refused_and_told(
    outbox_command: Command, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (enqueued(outbox_command, "live", "--delay", "1h") for _ in range(2))
    rehearse = SQLStore.rehearse

    def and_then_somebody_cancels(store: SQLStore, *arguments: Any) -> OperatorResult:
        counted = rehearse(store, *arguments)
        outbox.cancel(first)
        return counted

    monkeypatch.setattr(SQLStore, "rehearse", and_then_somebody_cancels)

    ended = outbox_command("cancel", "--channel", "live", "--yes")

    assert ended.status == 1
    assert (ended.stdout, ended.stderr) == ("1 message cancelled\n", f"refused: {first}: it is cancelled already\n")
    assert outbox.get(second).status == "cancelled"


@pytest.mark.parametrize(
    "arguments",
    [["retry"], ["cancel"], ["retry", "an-id", "--channel", "live"], ["cancel", "--yes"], ["retry", "--dry-run"]],
)
def test_without_saying_which_messages_nothing_happens(sqlite_url: str, arguments: list[str]) -> None:
    ended = Command(["--database", sqlite_url])(*arguments)

    assert ended.status == 2
    assert "either by ID or by --status, --channel, --turn and --target" in ended.complaint


@pytest.mark.parametrize(("verb", "status"), [("retry", "queued"), ("cancel", "delivered"), ("retry", "sent")])
def test_a_status_to_which_the_verb_cannot_apply_is_refused(sqlite_url: str, verb: str, status: str) -> None:
    ended = Command(["--database", sqlite_url])(verb, "--status", status)

    assert ended.status == 2
    assert f"{status!r} is not one of" in ended.complaint


def test_a_paused_channel_takes_nothing_until_it_is_resumed(outbox_command: Command, outbox: Outbox) -> None:
    waiting = enqueued(outbox_command, "live")

    paused = outbox_command.ok("pause", "live", "--reason", "maintenance")
    outbox.drain()
    before = outbox.get(waiting).status
    resumed = outbox_command.ok("resume", "live")
    outbox.drain()

    assert paused.stdout == "paused live until `outbox resume live`\n"
    assert resumed.stdout == "resumed live\n"
    assert (before, outbox.get(waiting).status) == ("queued", "delivered")


def test_who_paused_and_resumed_what_and_why_stays_on_record(outbox_command: Command, outbox: Outbox) -> None:
    outbox_command.ok("pause", "live", "--actor", "ada", "--reason", "maintenance")
    outbox_command.ok("resume", "live", "--actor", "bob", "--reason", "it is over")

    shown = outbox_command.ok("status", "--history", "10").stdout
    resumed, paused = outbox_command.ok("status", "--history", "10", "--json").data["history"]

    assert (paused["action"], paused["actor"], paused["reason"]) == ("pause", "ada", "maintenance")
    assert (resumed["action"], resumed["kind"], resumed["actor"], resumed["reason"]) == ("resume", "pause", "bob", "it is over")
    assert all(text in shown for text in ("paused and resumed", "ada", "maintenance", "bob", "it is over"))
    assert "history" not in outbox_command.ok("status", "--json").data


def test_a_pause_can_end_by_itself_and_cover_one_target(outbox_command: Command, outbox: Outbox) -> None:
    enqueued(outbox_command, "live")

    ended = outbox_command.ok("pause", "live", "--target", "a", "--for", "10m", "--json")

    (gate,) = outbox.store.gates()
    assert gate.closed_until is not None
    assert (gate.channel, gate.target, gate.kind) == ("live", "a", "pause")
    assert gate.closed_until - gate.closed_since == pytest.approx(600_000, abs=100)
    assert ended.data["closed_until"].endswith("Z")


def test_resume_opens_the_channel_and_leaves_closed_targets_closed_unless_told(outbox_command: Command, outbox: Outbox) -> None:
    for options in ([], ["--target", "a"], ["--target", "b"]):
        outbox_command.ok("pause", "live", *options)

    channel = outbox_command.ok("resume", "live")
    target = outbox_command.ok("resume", "live", "--target", "a", "--json")
    everything = outbox_command.ok("resume", "live", "--all-targets")
    nothing = outbox_command("resume", "live")

    assert channel.stderr == "still closed: a, b\n"
    assert target.data == {"channel": "live", "opened": 1, "still_closed": ["b"]}
    assert everything.stdout == "resumed live\n"
    assert (nothing.status, nothing.stdout) == (1, "live was not closed\n")
    assert outbox.store.gates() == []


def test_pausing_a_channel_nobody_uses_works_and_says_so(outbox_command: Command) -> None:
    enqueued(outbox_command, "live")

    ended = outbox_command.ok("pause", "lvie")

    assert ended.stderr == "note: no message waits for a channel 'lvie'; did you mean 'live'?\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pause", "live", "--for", "0s"], "it must be longer than 0"),
        (["pause", "live", "--for", "soon"], "'soon' is not a duration"),
        (["resume", "live", "--target", "a", "--all-targets"], "exclude each other"),
        (["prune", "--delivered-older-than", "31d"], "failures are kept at least as long as deliveries"),
    ],
)
def test_senseless_options_are_refused(sqlite_url: str, arguments: list[str], said: str) -> None:
    command = Command(["--database", sqlite_url])
    command.ok("db", "upgrade")

    ended = command(*arguments)

    assert ended.status == 2
    assert said in ended.complaint


def test_prune_deletes_what_outlived_its_retention_and_nothing_else(outbox_command: Command, outbox: Outbox) -> None:
    old = {name: enqueued(outbox_command, name) for name in ("live", "dead")}
    outbox.drain()
    age(outbox, days=3)
    new = enqueued(outbox_command, "live")
    outbox.drain()
    waiting = enqueued(outbox_command, "live", "--delay", "1h")

    counted = outbox_command.ok("prune", "--dry-run", "--json").data
    before = len(outbox.list())
    deleted = outbox_command.ok("prune", "--json").data

    assert counted == deleted == {"cancelled": 0, "delivered": 1, "expired": 0, "failed_terminal": 0}
    assert before == 4
    assert {message.id for message in outbox.list()} == {old["dead"], new, waiting}

    stricter = outbox_command.ok("prune", "--failed-older-than", "48h")

    assert "1 failed_terminal deleted" in stricter.stdout
    assert outbox.attempts(old["dead"]) == []


def test_prune_keeps_what_the_application_wants_kept(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = application_module(
        monkeypatch, tmp_path,
        "from outbox import Outbox\nfrom outbox.policy.retention import Retention\n"
        f"outbox = Outbox({sqlite_url!r}, retention=Retention(9 * 86_400_000, 90 * 86_400_000))\n"
        "outbox.channel('live')(lambda message, attempt: None)\n",
    )  # fmt: skip
    command = Command(["--app", f"{module}:outbox"])
    command.ok("db", "upgrade")
    enqueued(command, "live")
    command.ok("relay", "--inline", "--once")
    with closing(Outbox(sqlite_url)) as outbox:
        age(outbox, days=5)

    assert command.ok("prune", "--json").data["delivered"] == 0
    assert command.ok("prune", "--delivered-older-than", "4d", "--json").data["delivered"] == 1


@pytest.mark.parametrize(
    ("option", "said", "status"), [("--sent", "recorded as delivered", "delivered"), ("--not-sent", "made due", "queued")]
)
def test_a_parked_message_is_resolved_as_the_operator_says(
    outbox_command: Command, outbox: Outbox, option: str, said: str, status: str
) -> None:
    parked, waiting = enqueued(outbox_command, "live"), enqueued(outbox_command, "live", "--delay", "1h")
    with outbox.store.connection_for_schema() as connection:
        connection.exec_driver_sql(f"update message_outbox set status = 'parked' where id = '{parked}'")

    ended = outbox_command("resolve", parked, waiting, option, "--actor", "ann", "--reason", "it is in their log")

    assert ended.status == 1
    assert ended.stdout == f"1 message {said}\n"
    assert ended.stderr == f"refused: {waiting}: it is queued, and only a parked message waits to be resolved\n"
    assert outbox.get(parked).status == status
    assert outbox.store.operations(parked)[0].actor == "ann"


def test_parked_messages_are_resolved_by_filter_once_that_is_confirmed(outbox_command: Command, outbox: Outbox) -> None:
    parked = [enqueued(outbox_command, "live", "--target", "a") for _ in range(2)]
    other, waiting = enqueued(outbox_command, "live", "--target", "b"), enqueued(outbox_command, "live", "--target", "a")
    with outbox.store.connection_for_schema() as connection:
        connection.exec_driver_sql(f"update message_outbox set status = 'parked' where id <> '{waiting}'")
    by_filter = ("resolve", "--target", "a", "--sent")

    assert outbox_command.ok(*by_filter, "--dry-run").stdout == "2 messages would be recorded as delivered\n"
    assert outbox_command(*by_filter, stdin="n\n").status == 1
    assert {outbox.get(message_id).status for message_id in parked} == {"parked"}
    assert outbox_command.ok(*by_filter, stdin="y\n").stdout == "2 messages recorded as delivered\n"

    assert {outbox.get(message_id).status for message_id in parked} == {"delivered"}
    assert (outbox.get(other).status, outbox.get(waiting).status) == ("parked", "queued")
