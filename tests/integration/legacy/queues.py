"""A legacy queue on disk, written as the old gateway wrote it, and what an import made of it."""

import hashlib
import json
import time
import uuid
from pathlib import Path
from typing import Any

from outbox import Attempt, Message, Outbox

HOUR_MS = 3_600_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class InAYear:
    """A clock by which all that is kept for a while has been kept long enough."""

    def now_ms(self) -> int:
        return now_ms() + 365 * 24 * HOUR_MS


def an_entry(**changes: Any) -> dict[str, Any]:
    """An entry that was enqueued a second ago and never tried; a change to ``...`` takes the key away."""
    entry = {
        "id": str(uuid.uuid4()),
        "enqueuedAt": now_ms() - 1_000,
        "channel": "telegram",
        "to": "-1001234567890",
        "accountId": "default",
        "payloads": [{"text": "Nightly report: 3 jobs failed."}],
        "retryCount": 0,
        **changes,
    }
    return {key: value for key, value in entry.items() if value is not ...}


class LegacyQueue:
    """A queue's base directory, and what was ever written there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.archive = path / "imported"
        self.failed = path / "failed"
        self.failed.mkdir(parents=True)
        self.written: dict[str, str] = {}

    def pending(self, **changes: Any) -> str:
        """Write an entry that waits; returns its id."""
        return self._entry("", changes)

    def dead(self, **changes: Any) -> str:
        """Write an entry that was given up; returns its id."""
        return self._entry("failed/", changes)

    def file(self, name: str, content: bytes | str) -> Path:
        """Write a file of any content."""
        data = content.encode() if isinstance(content, str) else content
        (self.path / name).write_bytes(data)
        self.written[name] = hashlib.sha256(data).hexdigest()
        return self.path / name

    def left(self) -> set[str]:
        """The names of the files that are still in the queue."""
        return {
            path.relative_to(self.path).as_posix()
            for path in self.path.rglob("*")
            if not path.is_dir() and self.archive not in path.parents
        }

    def archived(self) -> set[str]:
        """The names of the files in the archive."""
        return {path.relative_to(self.archive).as_posix() for path in self.archive.rglob("*") if path.is_file()}

    def is_intact(self) -> bool:
        """Whether each file that was written is, byte for byte, in exactly one of the two places."""
        return all(
            [digest(place / name) for place in (self.path, self.archive) if (place / name).exists()] == [written]
            for name, written in self.written.items()
        )

    def _entry(self, folder: str, changes: dict[str, Any]) -> str:
        entry = an_entry(**changes)
        self.file(f"{folder}{entry['id']}.json", json.dumps(entry))
        return str(entry["id"])


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def parts(outbox: Outbox, entry_id: str) -> list[Message]:
    """The messages of an entry, in order."""
    return sorted(outbox.list(turn_id=entry_id), key=lambda message: message.seq)


def only(outbox: Outbox, entry_id: str) -> Message:
    (message,) = parts(outbox, entry_id)
    return message


class Sent:
    """What a channel was given to send: turn and index of the part, in the order of sending."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, message: Message, attempt: Attempt) -> None:
        self.keys.append(str(message.idempotency_key))
