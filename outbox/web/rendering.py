"""Jinja, set up to escape everything, with the few forms in which numbers and times are shown."""

import json
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from outbox.facts import iso
from outbox.store.records import Count

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
NOTHING = "–"


@cache
def environment() -> Environment:
    """The templates of the dashboard."""
    found = Environment(
        loader=PackageLoader("outbox.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters.update(count=count, iso=iso, pretty=pretty, short=short, span=span, since=since, words=words)
    return found


def count(value: Count | int) -> str:
    """A number for people: ``12,345``, and ``10,000+`` where counting stopped."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value.rows:,}{'+' if value.at_least else ''}"


def span(duration_ms: float | None) -> str:
    """A duration in its largest two units: ``340 ms``, ``4.2 s``, ``3m 5s``, ``2d 4h``."""
    if duration_ms is None:
        return NOTHING
    if duration_ms < 1_000:
        return f"{duration_ms:.0f} ms"
    if duration_ms < 10_000:
        return f"{duration_ms / 1000:.1f} s"
    seconds = round(duration_ms / 1000)
    for position, (length, unit) in enumerate(_UNITS):
        if seconds >= length:
            smaller, smaller_unit = _UNITS[min(position + 1, len(_UNITS) - 1)]
            rest = seconds % length // smaller
            return f"{seconds // length}{unit}" + (f" {rest}{smaller_unit}" if rest and unit != "s" else "")
    raise AssertionError("unreachable: at least ten seconds are left here")


def since(moment_ms: int | None, now_ms: int) -> str:
    """A moment as seen from now: ``3m 5s ago``, ``in 20s``, ``now``."""
    if moment_ms is None:
        return NOTHING
    if abs(now_ms - moment_ms) < 1_000:
        return "now"
    return f"{span(now_ms - moment_ms)} ago" if moment_ms < now_ms else f"in {span(moment_ms - now_ms)}"


def short(message_id: str) -> str:
    """Enough of an id to tell rows apart: its beginning, which is a time, and its end, which is chance."""
    return message_id if len(message_id) <= 16 else f"{message_id[:8]}…{message_id[-6:]}"


def words(name: str) -> str:
    """A status or verb as people write it: ``failed terminal``."""
    return str(name).replace("_", " ")


def pretty(value: Any) -> str:
    """A JSON value, indented."""
    return json.dumps(value, indent=2, ensure_ascii=False)
