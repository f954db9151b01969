"""``page`` and ``find_named``: lists of messages at a price that does not grow with the table.

A page walks one index from where the last one ended. What that index cannot tell, such as the target, is looked for among a
bounded number of rows; a page that has looked at as many ends there, short or empty, and says where to go on.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Row, Select, Text, bindparam, select, tuple_, union, union_all

from outbox.lifecycle import ACTIVE, DUE, TERMINAL, Status
from outbox.store.counting import DUE_ARMS
from outbox.store.records import Line, MessageFilter, Page, Place
from outbox.store.schema import literal, status_in
from outbox.store.sql import Sql, Transaction
from outbox.store.sweeping import completed

WINDOW = 20_000
"""Rows that one page looks at, at the most."""

_FEW = (Status.DISPATCHED, Status.SENDING, Status.PARKED)
"""Statuses that few rows are in at any time, each with an index of its own."""
_LINE = (
    "seq", "id", "channel", "target", "status", "attempt_count", "max_attempts", "queued_at", "next_attempt_at",
    "completed_at", "last_error", "terminal_reason",
)  # fmt: skip
_BEGINNING = Place(seq=2**62, at=2**62)


@dataclass(frozen=True)
class _Walk:
    """Rows in the order of an index, which knows these facts of them; ``at`` goes before ``seq`` in that order."""

    rows: Sequence[Select[Any]]
    knows: Collection[str] = ()

    def window(self, size: int) -> FromClause:
        """The first so many rows."""
        parts = [select(rows.limit(size).subquery()) for rows in self.rows]
        whole = union_all(*parts).subquery("whole") if len(parts) > 1 else parts[0].subquery("whole")
        return select(whole).order_by(whole.c.at.desc(), whole.c.seq.desc()).limit(size).subquery("window")


def page(tx: Transaction, wanted: MessageFilter, after: Place | None, limit: int) -> Page:
    """Up to ``limit`` messages that match, behind ``after``: newest first, or by completion what has a terminal status."""
    walk = _walk(tx, wanted, after or _BEGINNING)
    if not walk.rows:
        return Page()
    facts = {name: getattr(wanted, name) for name in ("status", "channel", "target", "turn_id")}
    facts = {name: value for name, value in facts.items() if value is not None}
    size = limit + 1 if facts.keys() <= set(walk.knows) else WINDOW
    window = walk.window(size)
    newest_first = (window.c.at.desc(), window.c.seq.desc())
    matching = [window.c[name] == value for name, value in facts.items()]
    found = tx.execute(select(window).where(*matching).order_by(*newest_first).limit(limit + 1)).all()
    if len(found) > limit:
        return Page(_lines(found[:limit]), _place(found[limit - 1]))
    end = tx.execute(select(window.c.at, window.c.seq).order_by(*newest_first).offset(size - 1)).one_or_none()
    return Page(_lines(found), None if end is None else _place(end))


def find_named(tx: Transaction, name: str, channels: Sequence[str], limit: int) -> list[Line]:
    """Messages with that id, turn or idempotency key, and living ones with that ordering key; keys count in ``channels``."""
    return _lines(tx.execute(_named(tx.sql), name=name, channels=list(channels), limit=limit))


def _walk(tx: Transaction, wanted: MessageFilter, after: Place) -> _Walk:
    m = tx.sql.tables.messages
    rows = select(*(m.c[name] for name in _LINE), m.c.turn_id)
    if wanted.turn_id is None and wanted.status in TERMINAL:
        kept = [place.channel for place in completed(tx) if place.status is wanted.status]
        ended = rows.add_columns(m.c.completed_at.label("at")).where(
            m.c.status == literal(str(wanted.status)),
            m.c.completed_at.is_not(None),
            tuple_(m.c.completed_at, m.c.seq) < tuple_(after.at, after.seq),
        )
        ended = ended.order_by(m.c.completed_at.desc(), m.c.seq.desc())
        channels = [channel for channel in kept if wanted.channel in (None, channel)]
        return _Walk([ended.where(m.c.channel == channel) for channel in channels], ("status", "channel"))
    rows = rows.add_columns(literal(0).label("at"))
    # The sum keeps planners from walking the primary key, where few rows may lie a long way apart.
    few = rows.where(m.c.seq + literal(0) < after.seq).order_by((m.c.seq + literal(0)).desc())
    if wanted.turn_id is not None:
        return _Walk([few.where(m.c.turn_id == wanted.turn_id)], ("turn_id",))
    if wanted.status in _FEW:
        return _Walk([few.where(m.c.status == literal(str(wanted.status)))], ("status",))
    if wanted.status in DUE and not _is_backlogged(tx):
        arms = [arm for arm in DUE_ARMS if wanted.status in arm.statuses]
        return _Walk([few.where(arm.holds(m), m.c.status == literal(str(wanted.status))) for arm in arms], ("status",))
    return _Walk([rows.where(m.c.seq < after.seq).order_by(m.c.seq.desc())])


def _is_backlogged(tx: Transaction) -> bool:
    """Whether so many rows wait that they are found along the primary key sooner than they are sorted."""
    m = tx.sql.tables.messages
    many = [select(m.c.seq).where(arm.holds(m)).offset(WINDOW - 1).limit(1).subquery() for arm in DUE_ARMS]
    return bool(tx.execute(union_all(*map(select, many))).first())


def _place(row: Row[Any]) -> Place:
    return Place(row.seq, row.at)


def _lines(rows: Iterable[Row[Any]]) -> list[Line]:
    return [Line(**{name: row._mapping[name] for name in _LINE} | {"status": Status(row.status)}) for row in rows]


@lru_cache(maxsize=64)
def _named(sql: Sql) -> Select[Any]:
    """An arm for each index, since no planner joins indexes of such different kinds by itself."""
    m = sql.tables.messages
    name: ColumnElement[str] = bindparam("name", type_=Text)
    of_channels = m.c.channel.in_(bindparam("channels", expanding=True))
    seqs = union(
        select(m.c.seq).where(m.c.id == name),
        select(m.c.seq).where(m.c.turn_id == name),
        select(m.c.seq).where(of_channels, m.c.idempotency_key == name),
        select(m.c.seq).where(of_channels, m.c.ordering_key == name, status_in(m, ACTIVE)),
    ).subquery("named")
    lines = select(*(m.c[column] for column in _LINE)).join_from(seqs, m, m.c.seq == seqs.c.seq)
    return lines.order_by(m.c.seq.desc()).limit(bindparam("limit"))
