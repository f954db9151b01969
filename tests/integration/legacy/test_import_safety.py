"""What must never happen: a file that is gone while its messages are not safe."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from outbox import Outbox
from outbox.errors import ConfigurationError, OutboxError, SchemaError
from outbox.legacy import ImportAborted, import_directory
from outbox.legacy.archive import Archive
from tests.integration.legacy.queues import LegacyQueue, only, parts

NOBODY = 65_534


@pytest.mark.proves("T17")
@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:outbox?mode=memory&cache=shared&uri=true"])
@pytest.mark.filterwarnings("ignore:Selection of the SingletonThreadPool")
def test_T17_a_database_in_memory_is_refused_and_no_file_moves(url: str, queue: LegacyQueue):
    outbox = Outbox(url)
    outbox.upgrade_schema()
    queue.pending()
    for dry_run in (True, False):
        with pytest.raises(ConfigurationError, match="the database is in memory"):
            import_directory(outbox, queue.path, dry_run=dry_run)
    assert queue.archived() == set()
    assert queue.is_intact()
    outbox.close()


@pytest.mark.proves("T17")
def test_T17_a_database_file_that_was_deleted_meanwhile_is_noticed_and_no_file_moves(
    sqlite_outbox: Outbox, sqlite_outbox_url: str, queue: LegacyQueue, monkeypatch: pytest.MonkeyPatch
):
    queue.pending()
    after(monkeypatch, sqlite_outbox, "import_entries", lambda: Path(sqlite_outbox_url.removeprefix("sqlite:///")).unlink())
    with pytest.raises(OutboxError):
        import_directory(sqlite_outbox, queue.path)
    assert queue.archived() == set()
    assert queue.is_intact()


@pytest.mark.proves("T16")
def test_T16_what_somebody_deletes_before_it_is_read_back_is_noticed_and_no_file_moves(
    outbox: Outbox, queue: LegacyQueue, monkeypatch: pytest.MonkeyPatch
):
    queue.pending()
    after(monkeypatch, outbox, "import_entries", lambda: run(outbox, "delete from message_outbox"))
    with pytest.raises(ImportAborted, match="1 entries were committed and cannot be read back"):
        import_directory(outbox, queue.path)
    assert queue.archived() == set()
    assert queue.is_intact()


@pytest.mark.proves("T16")
def test_T16_a_database_that_silently_drops_rows_is_noticed_and_nothing_is_imported(sqlite_outbox: Outbox, queue: LegacyQueue):
    entry = queue.pending()
    run(sqlite_outbox, "create trigger drops before insert on message_outbox begin select raise(ignore); end")
    with pytest.raises(OutboxError, match="did not keep imported messages as they were written"):
        import_directory(sqlite_outbox, queue.path)
    assert queue.left() == {f"{entry}.json"}
    run(sqlite_outbox, "drop trigger drops")
    assert import_directory(sqlite_outbox, queue.path).imported == 1, "no receipt stands for what was dropped"
    assert only(sqlite_outbox, entry)


def test_T16_a_database_that_changes_rows_is_noticed_and_nothing_is_imported(sqlite_outbox: Outbox, queue: LegacyQueue):
    entry = queue.pending()
    run(
        sqlite_outbox,
        "create trigger changes after insert on message_outbox begin "
        "update message_outbox set payload = null where seq = new.seq; end",
    )
    with pytest.raises(OutboxError, match="did not keep imported messages as they were written"):
        import_directory(sqlite_outbox, queue.path)
    assert queue.left() == {f"{entry}.json"}
    assert parts(sqlite_outbox, entry) == []


@pytest.mark.proves("T16")
def test_T16_an_error_of_the_database_is_raised_and_no_file_moves(sqlite_outbox: Outbox, queue: LegacyQueue):
    queue.pending()
    run(sqlite_outbox, "create trigger full before insert on message_outbox begin select raise(abort, 'disk is full'); end")
    with pytest.raises(OutboxError, match="disk is full"):
        import_directory(sqlite_outbox, queue.path)
    assert queue.archived() == set()
    assert queue.is_intact()


def test_T16_a_file_that_the_old_gateway_rewrites_meanwhile_stays(
    sqlite_outbox: Outbox, queue: LegacyQueue, monkeypatch: pytest.MonkeyPatch
):
    entry = queue.pending()
    after(monkeypatch, sqlite_outbox, "read_back", lambda: queue.pending(id=entry, retryCount=1))
    summary = import_directory(sqlite_outbox, queue.path)
    assert summary.imported == 1
    assert [left.name for left in summary.not_archived] == [f"{entry}.json"]
    assert not summary.is_clean
    assert queue.is_intact(), "the newer file lies in the queue, and no other"
    (refused,) = import_directory(sqlite_outbox, queue.path).refused
    assert "with other content" in refused.reason


def test_T16_files_go_to_the_archive_only_after_their_messages_were_read_back(
    sqlite_outbox: Outbox, queue: LegacyQueue, monkeypatch: pytest.MonkeyPatch
):
    done: list[str] = []
    for verb in ("import_entries", "read_back"):
        after(monkeypatch, sqlite_outbox, verb, lambda verb=verb: done.append(verb))
    put = Archive.put
    monkeypatch.setattr(Archive, "put", lambda *arguments: (done.append("archive"), put(*arguments))[1])
    queue.pending()
    import_directory(sqlite_outbox, queue.path)
    assert done == ["import_entries", "read_back", "archive"]


def test_a_database_without_tables_is_told_and_no_file_moves(sqlite_url: str, queue: LegacyQueue):
    outbox = Outbox(sqlite_url)
    queue.pending()
    with pytest.raises(SchemaError, match="outbox db upgrade"):
        import_directory(outbox, queue.path)
    assert queue.is_intact()
    outbox.close()


@pytest.mark.parametrize("ttl_s", [0, -1, float("nan"), float("inf"), 1e12])
def test_R6_a_ttl_that_is_none_is_refused(sqlite_outbox: Outbox, queue: LegacyQueue, ttl_s: float):
    with pytest.raises(ConfigurationError, match="the TTL must be a number of seconds above 0"):
        import_directory(sqlite_outbox, queue.path, ttl_s=ttl_s)


@pytest.mark.parametrize("archive", [".", "failed", "failed/../"])
def test_an_archive_that_is_the_queue_itself_is_refused(sqlite_outbox: Outbox, queue: LegacyQueue, archive: str):
    queue.pending()
    with pytest.raises(ConfigurationError, match="the archive must be another directory"):
        import_directory(sqlite_outbox, queue.path, archive=queue.path / archive)
    assert queue.is_intact()


def test_an_archive_elsewhere_takes_the_files(sqlite_outbox: Outbox, queue: LegacyQueue, tmp_path: Path):
    entry, dead = queue.pending(), queue.dead()
    assert import_directory(sqlite_outbox, str(queue.path), archive=str(tmp_path / "a" / "b")).is_clean
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {f"{entry}.json", "failed"}
    assert (tmp_path / "a" / "b" / "failed" / f"{dead}.json").is_file()


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_imported(open_queue: LegacyQueue, open_outbox: Outbox):
    closed, live = open_queue.pending(), open_queue.pending()
    (open_queue.path / f"{closed}.json").chmod(0)
    with unprivileged():
        summary = import_directory(open_outbox, open_queue.path)
    assert summary.imported == 1
    assert [(left.name, left.reason) for left in summary.refused] == [
        (f"{closed}.json", "it cannot be read: Permission denied")
    ]
    assert only(open_outbox, live)


def test_a_queue_that_cannot_be_changed_is_refused_before_anything_is_imported(open_queue: LegacyQueue, open_outbox: Outbox):
    entry = open_queue.pending()
    open_queue.path.chmod(0o555)
    with unprivileged(), pytest.raises(ConfigurationError, match=r"cannot be (written by this user|made)"):
        import_directory(open_outbox, open_queue.path)
    assert parts(open_outbox, entry) == []
    open_queue.path.chmod(0o777)


def test_a_queue_that_cannot_be_listed_is_refused(open_queue: LegacyQueue, open_outbox: Outbox):
    open_queue.path.chmod(0o333)
    with unprivileged(), pytest.raises(ConfigurationError, match="cannot be read by this user"):
        import_directory(open_outbox, open_queue.path)
    open_queue.path.chmod(0o777)


def test_a_directory_of_dead_letters_that_cannot_be_listed_is_told(open_queue: LegacyQueue, open_outbox: Outbox):
    open_queue.pending()
    open_queue.failed.chmod(0)
    with unprivileged():
        summary = import_directory(open_outbox, open_queue.path)
    assert (summary.imported, [left.name for left in summary.refused]) == (1, ["failed/"])
    open_queue.failed.chmod(0o777)


def test_a_file_that_cannot_be_moved_is_told_and_moved_by_the_next_run(open_queue: LegacyQueue, open_outbox: Outbox):
    dead = open_queue.dead()
    open_queue.failed.chmod(0o555)
    with unprivileged():
        summary = import_directory(open_outbox, open_queue.path)
        assert (summary.dead, [left.name for left in summary.not_archived]) == (1, [f"failed/{dead}.json"])
        assert not summary.is_clean
    open_queue.failed.chmod(0o777)
    with unprivileged():
        assert import_directory(open_outbox, open_queue.path).already_imported == 1
    assert open_queue.archived() == {f"failed/{dead}.json"}
    assert only(open_outbox, dead)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that any user may enter and change."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)
        yield place


@pytest.fixture
def open_queue(open_place: Path) -> LegacyQueue:
    """A queue of which every file belongs to the user without privileges."""
    queue = LegacyQueue(open_place / "queue")
    for path in (queue.path, queue.failed):
        path.chmod(0o777)
    return queue


@pytest.fixture
def open_outbox(open_place: Path) -> Iterator[Outbox]:
    """An outbox that the user without privileges may write."""
    with unprivileged():
        outbox = Outbox(f"sqlite:///{open_place / 'outbox.db'}")
        outbox.upgrade_schema()
    yield outbox
    outbox.close()


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user for whom the permissions of files count: they do not count for root."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def after(monkeypatch: pytest.MonkeyPatch, outbox: Outbox, verb: str, then: Any) -> None:
    """Let something happen right after a verb of the store, each time."""
    original = getattr(outbox.store, verb)

    def wrapped(*arguments: Any) -> Any:
        answer = original(*arguments)
        then()
        return answer

    monkeypatch.setattr(outbox.store, verb, wrapped)


def run(outbox: Outbox, statement: str) -> None:
    with outbox.store.connection_for_schema() as connection:
        connection.execute(text(statement))
