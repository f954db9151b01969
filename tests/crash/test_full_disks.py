"""SQLite says 'database or disk is full': its file may not grow, or there is no room on the disk for its log."""

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError

from outbox import Attempt, Message, NewMessage, Outbox, Receipt
from outbox.errors import DatabaseUnavailable
from outbox.recording import Recorder
from outbox.telemetry import Event, SettleDelayed
from outbox.testing import FakeClock
from tests.crash.lives import Life, Stage, enqueue
from tests.integration.celery.nodes import eventually

FULL = "database or disk is full"
BULKY = "x" * 200_000
"""More than can lie in pages that are there already."""


class Disk(Protocol):
    """Where the database lies. It is filled and cleared as often as one likes."""

    file: Path

    def fill(self) -> None: ...

    def clear(self) -> None: ...


class BoundedFile:
    """The database's own file may not grow: ``outboxes`` learn of it when their next transaction begins."""

    def __init__(self, file: Path, *outboxes: Outbox) -> None:
        self.file = file
        self._engines = [outbox.store.engine for outbox in outboxes]

    def fill(self) -> None:
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute("create table filler (x)")
            self._bound(connection)
            with suppress(sqlite3.OperationalError):
                while True:  # pages that were freed would be taken before the file grows
                    connection.execute("insert into filler values (zeroblob(3000))")
                    connection.commit()
        for engine in self._engines:
            event.listen(engine, "begin", self._bound_one)

    def clear(self) -> None:
        for engine in self._engines:
            event.remove(engine, "begin", self._bound_one)
            engine.dispose()  # what a connection was told, it keeps
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute("drop table filler")

    def _bound_one(self, connection: Connection) -> None:
        self._bound(connection.connection.dbapi_connection)

    @staticmethod
    def _bound(connection: sqlite3.Connection) -> None:
        [pages] = connection.execute("pragma page_count").fetchone()
        connection.execute(f"pragma max_page_count = {pages}")


class SmallDisk:
    """A file system of a few megabytes, on which something else takes the rest: no byte can be added to the log."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._filler = file.with_name("filler")

    def fill(self) -> None:
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute("pragma wal_checkpoint(truncate)")  # what the log has, it would use again
        with self._filler.open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(4096))

    def clear(self) -> None:
        self._filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a disk of its own, where the machine lets one be mounted: root's right, which many a container drops."""
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("there is no mount, and so no disk that is small enough to be filled")
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no disk that is small enough to be filled can be mounted: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.fixture
def small_stage(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr("outbox.keeping.RETRY_S", 3600.0)
    yield from opened(small_disk)


@pytest.fixture
def bounded_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr("outbox.keeping.RETRY_S", 3600.0)
    yield from opened(tmp_path)


def opened(directory: Path) -> Iterator[Stage]:
    with closing(Stage(f"sqlite:///{directory / 'outbox.db'}")) as stage:
        stage.outbox.upgrade_schema()
        yield stage


@contextmanager
def filled(disk: Disk) -> Iterator[None]:
    disk.fill()
    yield
    disk.clear()


@pytest.mark.proves("T1", "T2")
def test_a_disk_without_room_for_the_log_stops_the_sends_and_loses_nothing(small_stage: Stage, small_disk: Path) -> None:
    life = Life(small_stage)

    with filled(SmallDisk(small_disk / "outbox.db")):
        with pytest.raises(DBAPIError, match=FULL):  # the application's own commit, and its driver's own words
            enqueue(small_stage.outbox, NewMessage(channel="chat", target="ada"))
        with pytest.raises(DatabaseUnavailable, match=FULL):
            small_stage.outbox.relay_once()
        life.suffer()
    life.enqueue_stubbornly()
    life.pass_by()

    life.judge()


@pytest.mark.proves("T1", "T2")
def test_a_file_that_may_not_grow_takes_nothing_of_a_message_and_loses_none(bounded_stage: Stage, tmp_path: Path) -> None:
    life = Life(bounded_stage)

    with filled(BoundedFile(tmp_path / "outbox.db", bounded_stage.outbox, bounded_stage.stranger)):
        with pytest.raises(DatabaseUnavailable, match=FULL):
            enqueue(bounded_stage.outbox, NewMessage(channel="chat", target="ada", payload=BULKY))
        life.go_on_in_vain()
    life.enqueue_stubbornly()
    life.pass_by()

    life.judge()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["file", "log"])
def scene(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[tuple[Outbox, Disk]]:
    directory: Path = request.getfixturevalue("small_disk") if request.param == "log" else tmp_path
    with closing(Outbox(f"sqlite:///{directory / 'outbox.db'}", clock=clock)) as outbox:
        outbox.upgrade_schema()
        file = directory / "outbox.db"
        yield outbox, SmallDisk(file) if request.param == "log" else BoundedFile(file, outbox)


@pytest.mark.proves("T1", "T2")
def test_outcomes_for_which_there_is_no_room_are_kept_and_recorded_once_there_is(
    scene: tuple[Outbox, Disk], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox, disk = scene
    monkeypatch.setattr("outbox.keeping.RETRY_S", 0.05)
    events: list[Event] = []
    outbox.telemetry.subscribe(events.append)
    outbox.delivery.recorder = Recorder(outbox.store, outbox.telemetry, pause=lambda _seconds: None)
    sent: list[str] = []

    def send(message: Message, _attempt: Attempt) -> Receipt:
        if not sent:
            disk.fill()
        sent.append(message.id)
        return Receipt(message.id, {"said": "x" * 10_000})

    outbox.channel("chat", concurrency=1)(send)
    ids = enqueue(outbox, *[NewMessage(channel="chat", target="ada")] * 10)

    with suppress(DatabaseUnavailable):
        outbox.relay_once()
    kept = {message.id for message in outbox.list() if message.status == "sending"}
    disk.clear()

    assert kept == set(sent)
    assert any(isinstance(event, SettleDelayed) and FULL in event.error for event in events)
    eventually(lambda: all(outbox.get(id).status == "delivered" for id in sent), "the outcomes")
    clock.advance(minutes=2)  # what was claimed and not begun could not be given back
    outbox.relay_once()
    assert sorted(sent) == sorted(ids)
    assert {outbox.get(id).status for id in ids} == {"delivered"}
    assert outbox.store.violations(10) == []
