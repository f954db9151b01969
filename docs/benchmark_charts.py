"""The charts of `benchmarks.md`, drawn from the same figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import leather
from leather import theme

OURS, THEIRS = "#00796b", "#b0bec5"
theme.title_font_family = theme.tick_font_family = "sans-serif"
theme.label_color = "#555"
WIDTH, A_BAR, AROUND_BARS = 760, 34, 120
"""Pixels."""

Results = Mapping[str, Any]
Row = Mapping[str, Any]


def drawn(results: Results) -> dict[str, str]:
    """Pictures by the names of their files."""
    pictures = {}
    for kind in ("sqlite", "postgresql"):
        rates = _rates(rows_of(results, peers=True), kind)
        if rates:
            pictures[f"benchmark-peers-{kind}.svg"] = _bars(f"messages a second on {named(kind)}", rates)
    nodes = by_nodes(results)
    if nodes:
        rates = [(f"{count} node{'s' * (count > 1)}", rate, True) for count, rate in nodes.items()]
        pictures["benchmark-scale.svg"] = _bars("messages a second, sends of 20 ms, PostgreSQL", rates)
    return pictures


def rows_of(results: Results, *, peers: bool) -> list[Row]:
    """Those about peers, or the others."""
    return [row for row in results["rows"] if row["id"].startswith("peer.") is peers]


def by_nodes(results: Results) -> dict[int, float]:
    """Messages a second of one node, two and four, as far as they were measured."""
    rows = {row["id"]: row for row in results["rows"] if row["id"].startswith("scale.")}
    more = {int(name.removeprefix("scale.")): row["ours"] for name, row in rows.items()}
    return {1: next(iter(rows.values()))["theirs"], **more} if rows else {}


def named(kind: str) -> str:
    """A database as people write it."""
    return {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[kind]


def _rates(rows: Sequence[Row], kind: str) -> list[tuple[str, float, bool]]:
    """Who, how fast, and whether it is us: the fastest first."""
    here = [row for row in rows if row["id"].endswith(f".{kind}") and row["theirs"] is not None]
    theirs = [(row["id"].split(".")[1], row["theirs"], False) for row in here]
    ours = [("celery-outbox", here[0]["ours"], True)] if here else []
    return sorted(ours + theirs, key=lambda rate: rate[1], reverse=True)


def _bars(title: str, rates: Sequence[tuple[str, float, bool]]) -> str:
    ours = {_labelled(who, rate) for who, rate, is_us in rates if is_us}
    chart = leather.Chart(title)
    chart.add_bars(
        [(rate, _labelled(who, rate)) for who, rate, _ in rates], fill_color=lambda bar: OURS if bar.y in ours else THEIRS
    )
    return str(chart.to_svg(width=WIDTH, height=AROUND_BARS + A_BAR * len(rates))) + "\n"


def _labelled(who: str, rate: float) -> str:
    return f"{who}  {rate:,.0f}"
