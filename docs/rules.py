"""Writes `reference/rules.md`: the rules that close races, each with its tests. Run it after changing their table."""

from pathlib import Path

from docs.crash_matrix import table
from tests.rules.rule import BOTH, NEITHER, Rule
from tests.rules.table import RULES

PAGE = Path(__file__).parent / "reference" / "rules.md"

HEAD = """# The rules that close races

Written by `docs/rules.py` from [their table](../../tests/rules/table.py).

Each names a line of code, and the tests that force two transactions to the dangerous moment that it closes. `make test-rules`
takes the line out, one rule after another, and demands that each of these tests then fails, on each of the databases that the
rule is for; every run of the tests looks whether the lines are still there. SQLite has one writer at a time, so what only two
writers can do is forced on PostgreSQL; that SQLite's writers do wait is a rule of its own. *Of the process* is what holds
without a database.
"""


def page() -> str:
    """The whole page."""
    parts = [
        f"## {title}\n\n{table(('rule', 'where', 'shown by'), [_row(rule) for rule in rules])}\n"
        for title, rules in RULES.items()
    ]
    return "\n".join([HEAD, *parts])


def _row(rule: Rule) -> list[str]:
    where = {BOTH: "both", NEITHER: "of the process"}.get(tuple(rule.databases), " ".join(rule.databases))
    return [rule.sentence, f"{where}, `{rule.file}`", "<br>".join(f"`{test}`" for test in rule.tests)]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
