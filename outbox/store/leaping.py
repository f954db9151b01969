"""Distinct prefixes of an index, one entry read for each: what ``select distinct`` would scan the whole index for."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import CTE, ColumnElement, FromClause, Table, func, literal_column, select

from outbox.store.schema import claimable, literal

_ONE: ColumnElement[int] = literal_column("1")


def lanes(messages: Table) -> CTE:
    """``channel`` and ``priority`` of which rows are claimable now or later, and the first ``next_attempt_at`` of each."""
    order = ("channel", "priority", "next_attempt_at")
    return leap(messages, order[:2], order, claimable, (literal(""), literal(-32768)))


def leap(
    messages: Table, prefix: Sequence[str], order: Sequence[str], where: Callable[[FromClause], ColumnElement[bool]],
    beyond: Sequence[ColumnElement[Any]],
) -> CTE:  # fmt: skip
    """A recursive CTE with the columns ``order``: for each distinct ``prefix`` after ``beyond``, its first row that matches.

    ``order`` starts with ``prefix`` and follows an index whose predicate is ``where``; ``seq`` breaks ties.
    """
    start, following, here = messages.alias("start"), messages.alias("following"), messages.alias("here")

    def first_after(row: FromClause, place: Sequence[ColumnElement[Any]], *known: FromClause) -> ColumnElement[Any]:
        """The nearest first: a row with the same beginning, then with a shorter one.

        To compare the whole prefix at once would say the same, but SQLite then reads every row that it is to leap over.
        """

        def first(depth: int) -> ColumnElement[Any]:
            alike = [row.c[prefix[i]] == place[i] for i in range(depth)]
            rows = select(row.c.seq).where(where(row), *alike, row.c[prefix[depth]] > place[depth])
            ordered = rows.order_by(*(row.c[name] for name in order), row.c.seq).limit(_ONE)
            return ordered.correlate(*known).scalar_subquery()

        depths = [first(depth) for depth in reversed(range(len(prefix)))]
        return func.coalesce(*depths) if len(depths) > 1 else depths[0]

    columns = [messages.c[name] for name in order]
    found = select(*columns).where(messages.c.seq == first_after(start, beyond)).cte("found", recursive=True)
    next_seq = first_after(following, [found.c[name] for name in prefix], found)
    return found.union_all(select(*(here.c[name] for name in order)).select_from(found).join(here, here.c.seq == next_seq))
