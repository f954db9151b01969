"""Writes `reference/metrics.md` from the catalogue of metrics: run it after a change of it."""

from collections.abc import Sequence
from pathlib import Path

from outbox.integrations.prometheus.catalogue import ASKED, COUNTED, Family

PAGE = Path(__file__).parent / "reference" / "metrics.md"

_HEAD = """\
# Metrics

What the outbox tells Prometheus. This page is written by `docs/metrics.py` from
[the catalogue](../../outbox/integrations/prometheus/catalogue.py); a test keeps them alike. How to get them is told in the
[guide](../guides/monitoring.md).

No label names a message, a target or an error. Their values are few: channels that are registered, statuses, outcomes
(`delivered`, `retry`, `deferred`, `rejected`, `unknown`, `withheld`), services of maintenance.
"""

_COUNTED = """\
Each process counts what it does, from its start. An application that enqueues has `outbox_enqueued_total` and the nudges; the
worker nodes have the rest.
"""

_ASKED = """\
These are asked of the database at each scrape, by whoever is scraped, and are the same wherever they are asked: take the `max`
over instances, never the sum.
"""


def page() -> str:
    """The whole page."""
    counted, asked = _section("What processes count", _COUNTED, COUNTED), _section("What the database holds", _ASKED, ASKED)
    return "\n".join([_HEAD, counted, asked])


def _section(title: str, text: str, families: Sequence[Family]) -> str:
    rows = [f"| `{family.name}` | {family.kind} | {_labels(family)} | {family.meaning} |" for family in families]
    return "\n".join([f"## {title}", "", text, "| metric | type | labels | meaning |", "|---|---|---|---|", *rows, ""])


def _labels(family: Family) -> str:
    return ", ".join(f"`{label}`" for label in family.labels)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
