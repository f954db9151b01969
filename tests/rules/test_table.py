"""The table of rules does not rot: the code is where it says, the tests exist, and the page shows it."""

import ast
from pathlib import Path

import pytest

from docs import rules as page
from tests.rules.rule import ROOT, Rule
from tests.rules.table import RULES

EVERY = [rule for rules in RULES.values() for rule in rules]


@pytest.mark.parametrize("rule", EVERY, ids=lambda rule: rule.name)
def test_the_code_that_keeps_a_rule_is_there_once_and_can_be_taken_out(rule: Rule) -> None:
    without = rule.removed_from((ROOT / rule.file).read_text(encoding="utf-8"))

    ast.parse(without)


def test_the_tests_that_stand_for_a_rule_exist() -> None:
    named = {test for rule in EVERY for test in rule.tests}

    assert sorted(test for test in named if test not in _tests(ROOT / test.partition("::")[0])) == []


def test_a_rule_that_is_not_kept_where_the_table_says_is_found() -> None:
    moved = Rule("Nothing.", "outbox/clock.py", "no such line", "", ["tests/unit/test_line.py::test_nothing"])

    with pytest.raises(ValueError, match="0 times"):
        moved.removed_from("another line")


def test_the_page_shows_the_table() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run `python -m docs.rules`"


def _tests(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {f"{file.relative_to(ROOT)}::{node.name}" for node in tree.body if isinstance(node, ast.FunctionDef)}
