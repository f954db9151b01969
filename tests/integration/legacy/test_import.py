"""A whole queue of the old gateway, imported into a real database and delivered from there."""

import json
import os
import shutil
from pathlib import Path

import pytest

from outbox import Attempt, Message, Outbox, PermanentFailure
from outbox.channels.base import FunctionChannel
from outbox.legacy import Left, Summary, import_directory
from outbox.lifecycle import Status
from tests.integration.legacy.queues import HOUR_MS, InAYear, LegacyQueue, Sent, an_entry, now_ms, only, parts


def nothing(**found: object) -> Summary:
    """The summary of an import that came upon nothing but ``found``."""
    none = dict.fromkeys(("imported", "expired", "dead", "already_sent", "already_imported", "messages"), 0)
    return Summary(**{**none, **found})  # type: ignore[arg-type]


def delivered(outbox: Outbox, *channels: str) -> list[str]:
    """What goes out, in order, once channels are there to send it."""
    sent = Sent()
    for channel in channels or ("telegram",):
        outbox.register(FunctionChannel(channel, sent))
    outbox.drain()
    return sent.keys


@pytest.mark.proves("R8")
def test_R8_a_queue_is_imported_once_and_its_files_are_kept(outbox: Outbox, queue: LegacyQueue):
    live = queue.pending(payloads=[{"text": "one"}, {"text": "two"}])
    old = queue.pending(enqueuedAt=now_ms() - HOUR_MS)
    dead = queue.dead(lastError="chat not found", retryCount=5)
    summary = import_directory(outbox, queue.path)
    assert summary == nothing(imported=1, expired=1, dead=1, messages=4)
    assert summary.is_clean
    assert [message.status for message in parts(outbox, live)] == [Status.QUEUED, Status.QUEUED]
    assert only(outbox, old).status is Status.EXPIRED
    assert only(outbox, dead).status is Status.FAILED_TERMINAL
    assert queue.left() == set()
    assert queue.archived() == {f"{live}.json", f"{old}.json", f"failed/{dead}.json"}
    assert queue.is_intact()
    assert import_directory(outbox, queue.path) == nothing()
    assert outbox.store.violations(10) == []


def test_R8_an_entry_is_stored_with_all_that_its_file_says(outbox: Outbox, queue: LegacyQueue):
    enqueued, tried = now_ms() - 20_000, now_ms() - 10_000
    entry = queue.pending(
        enqueuedAt=enqueued, retryCount=2, lastAttemptAt=tried, lastError="ETIMEDOUT", threadId=42, replyToId="9", silent=False,
        payloads=[{"text": "hi", "channelData": {"ts": "1782584644.377229"}}, {"text": "there", "replyToId": None}],
        mirror={"sessionKey": "s"},
    )  # fmt: skip
    import_directory(outbox, queue.path)
    first, second = parts(outbox, entry)
    assert first.payload == {
        "text": "hi", "extra": {"ts": "1782584644.377229"}, "thread_id": 42, "silent": False, "reply_to": "9",
    }  # fmt: skip
    assert second.payload == {"text": "there", "thread_id": 42, "silent": False}
    assert second.headers["legacy"] == {
        "options": {"accountId": "default", "threadId": 42, "replyToId": "9", "silent": False, "mirror": {"sessionKey": "s"}},
        "payload": {"replyToId": None},
    }
    for message in (first, second):
        assert (message.channel, message.target, message.account_id) == ("telegram", "-1001234567890", "")
        assert (message.turn_id, message.ordering_key) == (entry, "|-1001234567890|42")
        assert (message.status, message.attempt_count, message.max_attempts) == (Status.FAILED_RETRYABLE, 2, 5)
        assert (message.queued_at, message.last_attempt_at, message.last_error) == (enqueued, tried, "ETIMEDOUT")
        assert message.expires_at == enqueued + 1_800_000
        assert message.lease == 2, "a row that was tried is no untried one, or it would not hold its place in the order"


@pytest.mark.proves("T38")
def test_T38_what_a_reply_answers_is_used_up_by_a_delivery_and_not_by_a_failure(outbox: Outbox, queue: LegacyQueue):
    queue.pending(payloads=[{"text": "impossible"}, {"text": "two"}, {"text": "three"}], replyToId="4711")
    sent: list[tuple[str, object]] = []

    def send(message: Message, attempt: Attempt) -> None:
        if message.payload["text"] == "impossible":
            raise PermanentFailure("chat not found")
        sent.append((message.payload["text"], message.payload.get("reply_to")))

    import_directory(outbox, queue.path)
    outbox.register(FunctionChannel("telegram", send))
    outbox.drain()
    assert sent == [("two", "4711"), ("three", None)]


@pytest.mark.proves("T40")
def test_T40_replies_go_out_in_the_order_in_which_they_were_enqueued_whatever_their_names(outbox: Outbox, queue: LegacyQueue):
    begun = now_ms() - 100_000
    order = [queue.pending(enqueuedAt=begun + number, payloads=[{"text": "a"}, {"text": "b"}]) for number in range(20)]
    import_directory(outbox, queue.path)
    assert delivered(outbox) == [f"legacy:{entry}:{part}#1" for entry in order for part in (0, 1)]


@pytest.mark.proves("T22")
def test_T22_an_entry_that_failed_just_now_waits_for_its_pause(outbox: Outbox, queue: LegacyQueue):
    waits = queue.pending(retryCount=4, lastAttemptAt=now_ms() - 1_000)
    due = queue.pending(retryCount=4, lastAttemptAt=now_ms() - 700_000, to="another chat")
    import_directory(outbox, queue.path)
    assert delivered(outbox) == [f"legacy:{due}:0#1"]
    assert only(outbox, waits).status is Status.FAILED_RETRYABLE


@pytest.mark.proves("R8", "T19")
def test_T19_old_files_become_expired_and_are_never_sent_but_can_be_replayed(outbox: Outbox, queue: LegacyQueue):
    old = [queue.pending(enqueuedAt=now_ms() - HOUR_MS - number) for number in range(110)]
    assert import_directory(outbox, queue.path) == nothing(expired=110, messages=110)
    assert delivered(outbox) == []
    assert {only(outbox, entry).status for entry in old} == {Status.EXPIRED}
    outbox.retry(only(outbox, old[0]).id)
    outbox.drain()
    assert only(outbox, old[0]).status is Status.DELIVERED


def test_T19_the_importer_may_say_from_which_age_on_an_entry_is_too_old(outbox: Outbox, queue: LegacyQueue):
    queue.pending(enqueuedAt=now_ms() - HOUR_MS)
    queue.pending(enqueuedAt=now_ms() - 3 * HOUR_MS)
    assert import_directory(outbox, queue.path, ttl_s=7_200) == nothing(imported=1, expired=1, messages=2)


@pytest.mark.proves("T21")
def test_T21_a_mark_says_that_the_entry_was_sent(outbox: Outbox, queue: LegacyQueue):
    both, dead = queue.pending(), queue.dead()
    for entry in (both, dead):
        queue.file(f"{entry}.delivered", "{}")
    alone = str(an_entry()["id"])
    queue.file(f"{alone}.delivered", json.dumps(an_entry(id=alone)))
    assert import_directory(outbox, queue.path) == nothing(already_sent=5)
    assert queue.left() == set()
    assert queue.is_intact()
    queue.file(f"{alone}.json", json.dumps(an_entry(id=alone)))
    assert import_directory(outbox, queue.path) == nothing(already_sent=1), "even when a backup brings the entry back"
    assert delivered(outbox) == []


def test_T21_a_mark_counts_even_where_it_cannot_be_read(outbox: Outbox, queue: LegacyQueue):
    linked, huge, buried = queue.pending(), queue.pending(), queue.dead()
    (queue.path / f"{linked}.delivered").symlink_to("/nowhere")
    os.truncate(queue.file(f"{huge}.delivered", ""), 100 * 1024 * 1024)
    (queue.failed / f"{buried}.delivered").mkdir()
    summary = import_directory(outbox, queue.path)
    assert (summary.already_sent, summary.messages) == (3, 0)
    assert [left.name for left in summary.refused] == [f"{huge}.delivered"]
    assert delivered(outbox) == []


@pytest.mark.proves("T20")
def test_T20_absurd_times_and_counts_are_stored_as_something_that_can_be_sent_or_looked_at(outbox: Outbox, queue: LegacyQueue):
    absurd = [..., None, "soon", -1, -1e300, 0, 1e300, 10**300, float("nan"), float("inf"), True, [], {}]
    entries = [queue.pending(enqueuedAt=value, retryCount=value, lastAttemptAt=value, lastError=value) for value in absurd]
    summary = import_directory(outbox, queue.path)
    assert (summary.imported, summary.dead, summary.refused) == (11, 2, ())
    for entry in entries:
        message = only(outbox, entry)
        assert now_ms() - 60_000 < message.queued_at <= now_ms(), "as old as its file"
        assert message.last_attempt_at is None
    assert outbox.store.violations(100) == []
    assert len(delivered(outbox)) == 11


@pytest.mark.proves("T21")
def test_T21_files_that_are_no_entries_are_told_by_name_and_left_alone(outbox: Outbox, queue: LegacyQueue):
    live = queue.pending()
    names = [str(an_entry()["id"]) for _ in range(6)]
    queue.file(f"{names[0]}.json", "")
    queue.file(f"{names[1]}.json", "[]")
    queue.file(f"{names[2]}.json", b"\xff")
    queue.file(f"{names[3]}.json", "[" * 100_000)
    queue.file(f"{names[4]}.json", json.dumps(an_entry()))
    os.truncate(queue.file(f"failed/{names[5]}.json", ""), 100 * 1024 * 1024)
    queue.file(f"{live}.json.4711.tmp", "{")
    (queue.path / "link.json").symlink_to(f"{live}.json")
    (queue.path / "directory.json").mkdir()
    before = queue.left() - {f"{live}.json"}
    summary = import_directory(outbox, queue.path)
    assert (summary.imported, summary.is_clean) == (1, False)
    assert {left.name: left.reason for left in summary.refused} == {
        f"{names[0]}.json": "it is empty",
        f"{names[1]}.json": "it is JSON, but not an object",
        f"{names[2]}.json": "it is not UTF-8: invalid start byte at byte 0",
        f"{names[3]}.json": "it is nested too deeply",
        f"{names[4]}.json": "its id is not the one in its name",
        f"failed/{names[5]}.json": "it is larger than 8 MiB",
        "link.json": "it is a link; links are not followed",
        "directory.json": "it is a directory",
    }
    assert summary.ignored == (
        Left(f"{live}.json.4711.tmp", "an unfinished write: the process died before the entry was in the queue"),
    )
    assert queue.left() == before


def test_a_file_that_was_mended_is_imported_by_the_next_run(outbox: Outbox, queue: LegacyQueue):
    entry = an_entry()
    queue.file(f"{entry['id']}.json", json.dumps(entry)[:-1])
    assert len(import_directory(outbox, queue.path).refused) == 1
    queue.file(f"{entry['id']}.json", json.dumps(entry))
    assert import_directory(outbox, queue.path) == nothing(imported=1, messages=1)


def test_T16_the_same_entry_in_both_places_is_imported_once(outbox: Outbox, queue: LegacyQueue):
    entry = queue.pending()
    shutil.copy2(queue.path / f"{entry}.json", queue.failed)
    assert import_directory(outbox, queue.path) == nothing(imported=1, already_imported=1, messages=1)
    assert only(outbox, entry).status is Status.QUEUED
    assert queue.archived() == {f"{entry}.json", f"failed/{entry}.json"}


@pytest.mark.proves("T16")
def test_T16_an_entry_with_other_content_stays_and_is_told(outbox: Outbox, queue: LegacyQueue):
    entry = queue.pending(enqueuedAt=now_ms() - 5_000)
    queue.dead(id=entry, enqueuedAt=now_ms() - HOUR_MS, lastError="ETIMEDOUT")
    for _ in range(2):
        summary = import_directory(outbox, queue.path)
        (refused,) = summary.refused
        assert refused.name == f"failed/{entry}.json"
        assert refused.reason.startswith("an entry of this id with other content was imported before")
        assert queue.left() == {f"failed/{entry}.json"}
    assert only(outbox, entry).status is Status.QUEUED


def test_T16_a_mark_for_an_entry_that_was_imported_is_told_because_the_old_gateway_still_sends(
    outbox: Outbox, queue: LegacyQueue
):
    entry = queue.pending()
    import_directory(outbox, queue.path)
    queue.file(f"{entry}.delivered", "{}")
    (refused,) = import_directory(outbox, queue.path).refused
    assert refused.name == f"{entry}.delivered"
    assert only(outbox, entry).id in refused.reason
    assert "the old gateway has sent it since" in refused.reason


@pytest.mark.proves("R8", "T18")
def test_T18_an_entry_is_not_imported_again_after_its_message_was_pruned(
    outbox: Outbox, outbox_url: str, queue: LegacyQueue, tmp_path: Path
):
    entry = queue.pending()
    shutil.copy2(queue.path / f"{entry}.json", tmp_path / "backup.json")
    import_directory(outbox, queue.path)
    assert delivered(outbox) == [f"legacy:{entry}:0#1"]
    in_a_year = Outbox(outbox_url, clock=InAYear())
    in_a_year.maintain_once()
    in_a_year.close()
    assert parts(outbox, entry) == []
    shutil.copy2(tmp_path / "backup.json", queue.path / f"{entry}.json")
    assert import_directory(outbox, queue.path) == nothing(already_imported=1)
    assert parts(outbox, entry) == []
    assert queue.archived() == {f"{entry}.json"}


def test_an_entry_whose_idempotency_key_stands_without_a_receipt_is_told(outbox: Outbox, queue: LegacyQueue):
    entry, other = queue.pending(), queue.pending()
    with outbox.store.connection_for_schema() as connection:
        outbox.enqueue(connection, "telegram", target="-1", payload={}, idempotency_key=f"legacy:{entry}:0#1")
    summary = import_directory(outbox, queue.path)
    assert summary.imported == 1
    assert [left.name for left in summary.refused] == [f"{entry}.json"]
    assert only(outbox, other)
    assert queue.left() == {f"{entry}.json"}


def test_dead_letters_stay_alone_when_they_are_not_wanted(outbox: Outbox, queue: LegacyQueue):
    live, dead = queue.pending(), queue.dead()
    assert import_directory(outbox, queue.path, include_failed=False) == nothing(imported=1, messages=1)
    assert queue.left() == {f"failed/{dead}.json"}
    assert queue.archived() == {f"{live}.json"}


def test_a_dry_run_says_what_would_come_and_changes_nothing(outbox: Outbox, queue: LegacyQueue):
    entry = queue.pending()
    shutil.copy2(queue.path / f"{entry}.json", queue.failed)
    other = queue.pending()
    queue.dead(id=other, lastError="other content")
    queue.pending(enqueuedAt=now_ms() - HOUR_MS)
    queue.file(f"{queue.pending()}.delivered", "{}")
    queue.file("no-uuid.json", "{}")
    before = queue.left()
    rehearsed = import_directory(outbox, queue.path, dry_run=True)
    assert rehearsed.dry_run
    assert queue.left() == before
    assert not queue.archive.exists()
    assert outbox.list() == []
    carried_out = import_directory(outbox, queue.path)
    assert counts(rehearsed) == counts(carried_out)
    assert counts(rehearsed) == (2, 1, 0, 2, 1, 3, {"no-uuid.json", f"failed/{other}.json"})


def test_what_one_import_brought_another_recognises_in_a_dry_run(outbox: Outbox, queue: LegacyQueue, tmp_path: Path):
    entry = queue.pending()
    shutil.copy2(queue.path / f"{entry}.json", tmp_path)
    import_directory(outbox, queue.path)
    shutil.copy2(tmp_path / f"{entry}.json", queue.path)
    assert import_directory(outbox, queue.path, dry_run=True) == nothing(already_imported=1, dry_run=True)


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_every_file_is_counted_once_however_the_batches_fall(
    outbox: Outbox, queue: LegacyQueue, batch: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("outbox.legacy.run.MOST_FILES", batch)
    for number in range(6):
        queue.pending(enqueuedAt=now_ms() - HOUR_MS * (number % 2))
        queue.dead()
    assert import_directory(outbox, queue.path) == nothing(imported=3, expired=3, dead=6, messages=12)
    assert queue.left() == set()


def test_a_batch_is_bounded_by_its_bytes_too(sqlite_outbox: Outbox, queue: LegacyQueue, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("outbox.legacy.run.MOST_BYTES", 1_000)
    for _ in range(5):
        queue.pending(payloads=[{"text": "x" * 300}] * 2)
    done: list[int] = []
    import_directory(sqlite_outbox, queue.path, on_progress=lambda progress: done.append(progress.done))
    assert done == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]


def counts(summary: Summary) -> tuple[object, ...]:
    return (
        summary.imported, summary.expired, summary.dead, summary.already_sent, summary.already_imported, summary.messages,
        {left.name for left in summary.refused},
    )  # fmt: skip
