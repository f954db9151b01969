"""What lies in a queue's directory, and what is read of it."""

import os
import socket
from pathlib import Path

import pytest

from outbox.errors import ConfigurationError
from outbox.legacy.agenda import Agenda
from outbox.legacy.directory import LARGEST_FILE, Alien, Found, Place, QueueDirectory
from outbox.legacy.entry import EntryRefused

ID = "6f0c2b1e-9b7d-4a55-8a2e-2f7f3c1d9e40"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "queue"
    (path / "failed").mkdir(parents=True)
    return path


def scanned(base: Path, *, with_dead: bool = True) -> set[Found | Alien]:
    found = list(QueueDirectory(base).scan(with_dead=with_dead, without=base / "imported"))
    assert len(found) == len(set(found))
    return set(found)


def test_T21_entries_marks_and_dead_letters_are_told_apart(base: Path):
    for name in (f"{ID}.json", f"{ID}.delivered", f"failed/{ID}.json", f"failed/{ID}.delivered"):
        (base / name).write_bytes(b"{}")
    assert scanned(base) == {
        Found(Place.PENDING, f"{ID}.json"),
        Found(Place.SENT, f"{ID}.delivered"),
        Found(Place.DEAD, f"failed/{ID}.json"),
        Found(Place.SENT, f"failed/{ID}.delivered"),
    }
    assert {item.name for item in scanned(base, with_dead=False)} == {f"{ID}.json", f"{ID}.delivered"}
    assert {item.stem for item in scanned(base) if isinstance(item, Found)} == {ID}


def test_T21_everything_else_is_named_with_its_reason(base: Path):
    (base / f"{ID}.json.4711.tmp").write_bytes(b"{")
    (base / "notes.txt").write_bytes(b"")
    (base / "old").mkdir()
    (base / "dir.json").mkdir()
    (base / "link.json").symlink_to(base / "notes.txt")
    (base / "link.txt").symlink_to("/nowhere")
    os.mkfifo(base / "pipe.json")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(base / "failed" / "socket.json"))
    assert scanned(base) == {
        Alien(f"{ID}.json.4711.tmp", "an unfinished write: the process died before the entry was in the queue"),
        Alien("notes.txt", "it is no file of the queue"),
        Alien("old", "it is a directory"),
        Alien("dir.json", "it is a directory", is_suspect=True),
        Alien("link.json", "it is a link; links are not followed", is_suspect=True),
        Alien("link.txt", "it is a link; links are not followed"),
        Alien("pipe.json", "it is not a regular file", is_suspect=True),
        Alien("failed/socket.json", "it is not a regular file", is_suspect=True),
    }


def test_T21_a_linked_directory_of_dead_letters_is_not_followed(base: Path, tmp_path: Path):
    (base / "failed").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / f"{ID}.json").write_bytes(b"{}")
    (base / "failed").symlink_to(tmp_path / "elsewhere")
    assert scanned(base) == {Alien("failed", "it is a link; links are not followed", is_suspect=True)}


def test_the_archive_is_passed_over(base: Path):
    (base / "imported").mkdir()
    (base / "imported" / f"{ID}.json").write_bytes(b"{}")
    assert scanned(base) == set()


def test_a_file_is_read_with_its_time(base: Path):
    (base / "a.json").write_bytes(b"content")
    os.utime(base / "a.json", ns=(0, 1_700_000_000_123_456_789))
    content = QueueDirectory(base).read(Found(Place.PENDING, "a.json"))
    assert (content.data, content.modified_ms) == (b"content", 1_700_000_000_123)


def test_T21_what_became_a_link_since_is_not_followed(base: Path):
    (base / "secret").write_bytes(b"secret")
    (base / "a.json").symlink_to(base / "secret")
    assert "links are not followed" in refusal(base, "a.json")


@pytest.mark.timeout(10)
def test_T21_what_became_a_pipe_since_does_not_hang(base: Path):
    os.mkfifo(base / "a.json")
    assert refusal(base, "a.json") == "it is not a regular file"


def test_T21_what_became_a_directory_since_is_refused(base: Path):
    (base / "a.json").mkdir()
    assert refusal(base, "a.json") in ("it is not a regular file", "it cannot be read: Is a directory")


def test_a_file_that_went_away_is_refused(base: Path):
    assert refusal(base, "a.json").startswith("it went away during the import")


def test_a_file_of_100_megabytes_is_refused_before_it_is_read(base: Path):
    with (base / "a.json").open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    assert refusal(base, "a.json") == "it is larger than 8 MiB"


def test_a_file_of_the_largest_size_is_read_whole(base: Path):
    (base / "a.json").write_bytes(b"x" * LARGEST_FILE)
    assert len(QueueDirectory(base).read(Found(Place.PENDING, "a.json")).data) == LARGEST_FILE
    (base / "a.json").write_bytes(b"x" * (LARGEST_FILE + 1))
    assert refusal(base, "a.json") == "it is larger than 8 MiB"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no file here has more content than its size says")
def test_a_file_that_grows_while_it_is_read_is_refused():
    with pytest.raises(EntryRefused, match="it changed while it was read"):
        QueueDirectory(Path("/proc/self")).read(Found(Place.PENDING, "status"))


def test_a_directory_that_is_none_is_refused(tmp_path: Path):
    for path in (tmp_path / "nowhere", Path(__file__)):
        with pytest.raises(ConfigurationError, match="is not a directory"):
            QueueDirectory(path)


def test_the_agenda_is_in_order_of_place_time_and_name_whatever_the_names_are():
    files = [
        (Found(Place.DEAD, "failed/a.json"), 0),
        (Found(Place.PENDING, "z.json"), 1),
        (Found(Place.PENDING, os.fsdecode(b"\xff\n.json")), 2),
        (Found(Place.PENDING, "b.json"), 3),
        (Found(Place.PENDING, "a.json"), 3),
        (Found(Place.SENT, "b.delivered"), 0),
    ]
    with Agenda() as agenda:
        for found, at_ms in files:
            agenda.add(found, at_ms)
        assert len(agenda) == len(files)
        assert [found.name for found in agenda] == [
            "b.delivered", "z.json", os.fsdecode(b"\xff\n.json"), "a.json", "b.json", "failed/a.json",
        ]  # fmt: skip


def refusal(base: Path, name: str) -> str:
    with pytest.raises(EntryRefused) as refused:
        QueueDirectory(base).read(Found(Place.PENDING, name))
    return str(refused.value)
