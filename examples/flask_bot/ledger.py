"""The receiver's ledger: one line for each request, in the order of their coming, in a SQLite file of its own."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

COLUMNS = "at, message_id, conversation, number, text, verdict"


class Verdict(StrEnum):
    """What the receiver did with a request."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """Answered 503."""
    IGNORED = "ignored"
    """Left without an answer, and without effect."""
    FORGED = "forged"
    """The signature was wrong."""


@dataclass(frozen=True)
class Entry:
    """One request; ``at`` is epoch seconds."""

    at: float
    message_id: str
    conversation: str
    number: int
    text: str
    verdict: Verdict


class Ledger:
    """The ledger in one file. One process writes, others may read meanwhile."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file, isolation_level=None)

    @classmethod
    def create(cls, file: Path) -> "Ledger":
        """An empty ledger."""
        ledger = cls(file)
        ledger._connection.execute("pragma journal_mode = wal")
        ledger._connection.execute(f"create table request (seq integer primary key, {COLUMNS})")
        ledger._connection.execute("create index request_message on request (message_id)")
        return ledger

    def write(self, at: float, message_id: str, reply: Mapping[str, str | int], verdict: Verdict) -> None:
        """Add a line."""
        content = (reply.get("conversation", ""), reply.get("number", 0), reply.get("text", ""))
        self._connection.execute(
            f"insert into request ({COLUMNS}) values (?, ?, ?, ?, ?, ?)",  # noqa: S608 - the names above
            (at, message_id, *content, verdict),
        )

    def knows(self, message_id: str) -> bool:
        """Whether there was a request with this id before."""
        found = self._connection.execute("select 1 from request where message_id = ? limit 1", (message_id,))
        return found.fetchone() is not None

    def accepted(self) -> int:
        """How many different messages were accepted."""
        counted = self._connection.execute("select count(distinct message_id) from request where verdict = 'accepted'")
        return int(counted.fetchone()[0])

    def entries(self) -> Sequence[Entry]:
        """Every request, first to last."""
        rows = self._connection.execute(f"select {COLUMNS} from request order by seq")  # noqa: S608 - the names above
        return [
            Entry(at, message_id, conversation, number, text, Verdict(verdict))
            for at, message_id, conversation, number, text, verdict in rows
        ]
