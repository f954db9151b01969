"""Distinct prefixes of an index, one entry read for each: what ``select distinct`` would scan the whole index for."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import CTE, ColumnElement, FromClause, Table, literal_column, select, tuple_

_ONE: ColumnElement[int] = literal_column("1")


def leap(
    messages: Table, prefix: Sequence[str], order: Sequence[str], where: Callable[[FromClause], ColumnElement[bool]],
    beyond: Sequence[ColumnElement[Any]],
) -> CTE:  # fmt: skip
    """A recursive CTE with the columns ``order``: for each distinct ``prefix`` after ``beyond``, its first row that matches.

    ``order`` starts with ``prefix`` and follows an index whose predicate is ``where``; ``seq`` breaks ties.
    """
    start, following, here = messages.alias("start"), messages.alias("following"), messages.alias("here")

    def first_after(row: FromClause, place: Sequence[ColumnElement[Any]]) -> Any:
        further = tuple_(*(row.c[name] for name in prefix)) > tuple_(*place)
        ordered = [row.c[name] for name in order] + [row.c.seq]
        return select(row.c.seq).where(where(row), further).order_by(*ordered).limit(_ONE)

    first = first_after(start, beyond).scalar_subquery()
    found = select(*(messages.c[name] for name in order)).where(messages.c.seq == first).cte("found", recursive=True)
    next_seq = first_after(following, [found.c[name] for name in prefix]).correlate(found).scalar_subquery()
    return found.union_all(select(*(here.c[name] for name in order)).select_from(found).join(here, here.c.seq == next_seq))
