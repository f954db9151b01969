"""Two imports at once, each unaware of the other: every entry comes over once, and every file is archived once."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from outbox import NewMessage, Outbox
from outbox.legacy import import_directory
from outbox.lifecycle import Status
from outbox.store import importing
from outbox.store.records import History, ImportedEntry
from tests.integration.legacy.queues import LegacyQueue, an_entry, parts


@pytest.fixture
def other(outbox: Outbox, outbox_url: str) -> Iterator[Outbox]:
    """The same outbox, seen by another process."""
    opened = Outbox(outbox_url)
    yield opened
    opened.close()


def test_an_import_that_finds_another_to_have_been_faster_brings_nothing_twice(
    outbox: Outbox, other: Outbox, queue: LegacyQueue, monkeypatch: pytest.MonkeyPatch
):
    """The faster one runs from start to end between the other's look at the receipts and its write."""
    entries = [queue.pending() for _ in range(5)]
    write = outbox.store.import_entries

    def overtaken(new: list[ImportedEntry]) -> frozenset[str]:
        assert import_directory(other, queue.path).imported == 5
        return write(new)

    monkeypatch.setattr(outbox.store, "import_entries", overtaken)
    summary = import_directory(outbox, queue.path)
    assert (summary.imported, summary.already_imported, summary.messages) == (0, 5, 0)
    assert summary.is_clean, "the files lie in the archive; who moved them does not matter"
    assert [len(parts(outbox, entry)) for entry in entries] == [1] * 5
    assert queue.left() == set()
    assert queue.is_intact()


def test_two_imports_side_by_side_bring_every_entry_once(outbox: Outbox, other: Outbox, queue: LegacyQueue):
    entries = [queue.pending(payloads=[{"text": "a"}, {"text": "b"}]) for _ in range(300)]
    imported: list[int] = []
    start = threading.Barrier(2)

    def run(one: Outbox) -> None:
        start.wait()
        imported.append(import_directory(one, queue.path).imported)

    threads = [threading.Thread(target=run, args=(one,)) for one in (outbox, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(imported) == 300
    assert [len(parts(outbox, entry)) for entry in entries] == [2] * 300
    assert queue.left() == set()
    assert queue.is_intact()


def test_the_second_of_two_writers_waits_for_the_first_and_then_finds_its_receipts(outbox: Outbox, other: Outbox):
    first, second = an_import(outbox), an_import(outbox)
    twice = [replace(first, source_id="a"), replace(second, source_id="b")]
    later: list[frozenset[str]] = []
    waiting = threading.Thread(target=lambda: later.append(other.store.import_entries(renewed(twice)[::-1])))
    with outbox.store.transaction() as tx:
        assert importing.import_entries(tx, twice) == {"a", "b"}
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive(), "it waits for the first writer to commit or roll back"
    waiting.join()
    assert later == [frozenset()]
    assert len(outbox.list()) == 2


def test_the_second_of_two_writers_writes_when_the_first_rolls_back(outbox: Outbox, other: Outbox):
    entry = an_import(outbox)
    later: list[frozenset[str]] = []
    waiting = threading.Thread(target=lambda: later.append(other.store.import_entries(renewed([entry]))))
    with suppress(InterruptedError), outbox.store.transaction() as tx:
        assert importing.import_entries(tx, [entry]) == {entry.source_id}
        waiting.start()
        raise InterruptedError
    waiting.join()
    assert later == [frozenset({entry.source_id})]
    assert len(outbox.list()) == 1


def test_an_import_whose_commit_was_ambiguous_is_recognised_as_its_own(
    outbox: Outbox, queue: LegacyQueue, monkeypatch: pytest.MonkeyPatch
):
    """The commit took effect and its answer was lost, so that the verb ran twice."""
    queue.pending()
    write = outbox.store.import_entries

    def twice(new: list[ImportedEntry]) -> frozenset[str]:
        assert write(new)
        return write(new)

    monkeypatch.setattr(outbox.store, "import_entries", twice)
    summary = import_directory(outbox, queue.path)
    assert (summary.imported, summary.already_imported, summary.messages) == (1, 0, 1)


def an_import(outbox: Outbox) -> ImportedEntry:
    entry = an_entry()
    (row,) = outbox.preparer.rows(
        [NewMessage(channel="telegram", target="-1", payload=json.dumps(entry), idempotency_key=f"legacy:{entry['id']}:0")]
    )
    history = History(
        status=Status.QUEUED, queued_at=1, attempt_count=0, next_attempt_at=1, expires_at=None, last_attempt_at=None,
        last_error=None, error_class=None, terminal_reason=None, completed_at=None,
    )  # fmt: skip
    return ImportedEntry(entry["id"], "digest", "imported", [row._replace(max_attempts=5)], history)


def renewed(entries: list[ImportedEntry]) -> list[ImportedEntry]:
    """The same sources, read by another process: other message ids."""
    return [
        replace(entry, messages=[message._replace(id=f"{number:036}") for message in entry.messages])
        for number, entry in enumerate(entries)
    ]
