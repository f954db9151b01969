"""The queue's directory: what lies in it, found one by one, and read without trust in names, sizes or kinds of files."""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from outbox.errors import ConfigurationError
from outbox.legacy.entry import EntryRefused

FAILED = "failed"
LARGEST_FILE = 8 * 1024 * 1024
"""Bytes; a larger file is refused before it is read."""

_ENTRY, _SENT, _UNFINISHED = ".json", ".delivered", ".tmp"


class Place(IntEnum):
    """Where a file lies, which says what it means; in the order in which they are imported.

    Pending entries come before dead letters: of an entry that lies in both places, somebody put the pending one back.
    """

    SENT = 0
    PENDING = 1
    DEAD = 2


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is one of the queue's by its name and kind."""

    place: Place
    name: str
    """Below the directory."""

    @property
    def stem(self) -> str:
        """The id in its name."""
        return os.path.splitext(os.path.basename(self.name))[0]


@dataclass(frozen=True, slots=True)
class Alien:
    """Something that is no file of the queue. ``is_suspect`` when its name is that of an entry."""

    name: str
    reason: str
    is_suspect: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file, and when it was last written (epoch milliseconds)."""

    data: bytes
    modified_ms: int


@dataclass(frozen=True, slots=True)
class QueueDirectory:
    """A queue's base directory with ``failed/`` in it."""

    path: Path

    def __post_init__(self) -> None:
        if not os.path.isdir(self.path):
            raise ConfigurationError(f"{self.path} is not a directory, or this user cannot get there")
        if not os.access(self.path, os.R_OK | os.X_OK):
            raise ConfigurationError(f"{self.path} cannot be read by this user")

    def scan(self, *, with_dead: bool, without: Path) -> Iterator[Found | Alien]:
        """What lies here, in no order; ``with_dead`` in ``failed/`` too. The directory ``without`` is passed over."""
        dead = False
        with os.scandir(self.path) as listing:
            for item in listing:
                if item.is_dir(follow_symlinks=False) and (item.name == FAILED or Path(item.path) == without):
                    dead |= item.name == FAILED
                else:
                    yield _recognise(item, item.name, Place.PENDING)
        if dead and with_dead:
            yield from self._scan_dead()

    def read(self, found: Found) -> Content:
        """The file's bytes. Raises :class:`~outbox.legacy.entry.EntryRefused` for what is no readable file of a sane size."""
        try:
            descriptor = os.open(self.path_of(found), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                facts = os.fstat(descriptor)
                if not stat.S_ISREG(facts.st_mode):
                    raise EntryRefused("it is not a regular file")
                if facts.st_size > LARGEST_FILE:
                    raise EntryRefused(f"it is larger than {LARGEST_FILE // 1024 // 1024} MiB")
                data = file.read(facts.st_size + 1)
        except OSError as error:
            raise EntryRefused(_explained(error)) from error
        if len(data) != facts.st_size:
            raise EntryRefused("it changed while it was read; is the old gateway still running?")
        return Content(data, facts.st_mtime_ns // 1_000_000)

    def was_sent(self, stem: str) -> bool:
        """Whether the entry was acknowledged: renamed to ``<id>.delivered``, and the process died before it unlinked that."""
        return any(os.path.lexists(os.path.join(self.path, folder, f"{stem}{_SENT}")) for folder in ("", FAILED))

    def path_of(self, found: Found) -> str:
        """Where the file lies. No ``Path``: it would intern the name of every file."""
        return os.path.join(self.path, found.name)

    def _scan_dead(self) -> Iterator[Found | Alien]:
        try:
            with os.scandir(self.path / FAILED) as listing:
                for item in listing:
                    yield _recognise(item, f"{FAILED}/{item.name}", Place.DEAD)
        except OSError as error:
            yield Alien(f"{FAILED}/", _explained(error), is_suspect=True)


def _recognise(item: os.DirEntry[str], name: str, place: Place) -> Found | Alien:
    kind = os.path.splitext(item.name)[1]
    if kind in (_ENTRY, _SENT) and item.is_file(follow_symlinks=False):
        return Found(Place.SENT if kind == _SENT else place, name)
    if item.is_symlink():
        return Alien(name, "it is a link; links are not followed", is_suspect=kind == _ENTRY or item.name == FAILED)
    if kind == _UNFINISHED:
        return Alien(name, "an unfinished write: the process died before the entry was in the queue")
    if item.is_dir(follow_symlinks=False):
        return Alien(name, "it is a directory", is_suspect=kind == _ENTRY)
    if kind == _ENTRY:
        return Alien(name, "it is not a regular file", is_suspect=True)
    return Alien(name, "it is no file of the queue")


def _explained(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "it is a link; links are not followed"
    if error.errno == errno.ENOENT:
        return "it went away during the import; is the old gateway still running?"
    return f"it cannot be read: {error.strerror}"
