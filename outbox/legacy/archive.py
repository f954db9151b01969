"""Where the files go whose entries are safe in the database: moved byte for byte, verified, never overwritten or lost."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from outbox import checkpoints
from outbox.errors import ConfigurationError, OutboxError

_CHUNK = 1024 * 1024


class NotArchived(OutboxError):
    """A file stays where it is; the text says why. Its entry is in the database all the same."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A directory that keeps the files under the names they had below the queue's directory."""

    path: Path

    def prepare(self, source: Path) -> None:
        """Make sure, before anything is imported, that files can be moved from ``source`` to here.

        Raises :class:`~outbox.errors.ConfigurationError`.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"the archive {self.path} cannot be made: {error.strerror}") from error
        for place in (source, self.path):
            if not os.access(place, os.W_OK | os.X_OK):
                raise ConfigurationError(f"{place} cannot be written by this user, so that files could not be archived")

    def put(self, source: str, name: str, digest: str) -> None:
        """Move the file ``source``, whose bytes have this SHA-256, to ``name``. Raises :class:`NotArchived`."""
        wanted = os.path.join(self.path, name)
        try:
            os.makedirs(os.path.dirname(wanted), exist_ok=True)
            for place in _places(wanted):
                if not os.path.lexists(place):
                    _move(source, place, digest)
                    return
                if _is_same(place, digest) and not os.path.lexists(source):
                    return  # another import, at the same time, moved it
                if _is_same(place, digest) and _is_same(source, digest):
                    _finish(source, place)
                    return
        except OSError as error:
            raise NotArchived(f"it cannot be moved to the archive: {error.strerror}") from error


def digest_of(data: bytes) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _places(wanted: str) -> Iterator[str]:
    """The wanted place, and those to go to when another file has taken it."""
    yield wanted
    for number in count(1):
        yield f"{wanted}.{number}"


def _move(source: str, place: str, digest: str) -> None:
    """One atomic rename, so that a crash leaves the file in one place; between file systems, a copy that is verified first."""
    checkpoints.reach("archive", "move")
    try:
        os.rename(source, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, place, digest)
        _finish(source, place)
        return
    checkpoints.reach("archive", "moved")
    if not _is_same(place, digest):
        if not os.path.lexists(source):
            os.rename(place, source)
        raise NotArchived("it changed during the import; is the old gateway still running?")


def _copy(source: str, place: str, digest: str) -> None:
    partial = f"{place}.partial"
    shutil.copy2(source, partial, follow_symlinks=False)
    if not _is_same(partial, digest):
        os.unlink(partial)
        raise NotArchived("it changed during the import; is the old gateway still running?")
    _sync(partial)
    os.rename(partial, place)


def _finish(source: str, place: str) -> None:
    """Remove a source of which ``place`` is the verified copy, once that is on disk. A crash may have cut this short before."""
    _sync(place)
    _sync(os.path.dirname(place))
    os.unlink(source)


def _is_same(path: str, digest: str) -> bool:
    if os.path.islink(path) or not os.path.isfile(path):
        return False
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
    return state.hexdigest() == digest


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
