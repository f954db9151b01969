"""A rule that closes a race: its sentence, the line of code that keeps it, that line without it, and the tests that notice."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BOTH = ("sqlite", "postgresql")
POSTGRESQL = ("postgresql",)
"""For what SQLite's single writer rules out: there the rule is :data:`tests.rules.table`'s one of ``BEGIN IMMEDIATE``."""
SQLITE = ("sqlite",)
NEITHER = ()
"""For rules of the process, which hold whatever the database is; their tests run on one, or on none."""


@dataclass(frozen=True)
class Rule:
    """``file`` holds ``code`` exactly once. With ``without`` in its place each of ``tests`` fails on each of ``databases``."""

    sentence: str
    file: str
    code: str
    without: str
    tests: Sequence[str]
    databases: Sequence[str] = BOTH

    @property
    def name(self) -> str:
        """Short, and unique in the table."""
        return self.tests[0].rpartition("::")[2].removeprefix("test_") + " " + self.file.rpartition("/")[2]

    def removed_from(self, source: str) -> str:
        """``source`` without the rule. Raises :class:`ValueError` where the code is not there exactly once."""
        if source.count(self.code) != 1:
            raise ValueError(f"{self.file} holds this {source.count(self.code)} times instead of once:\n{self.code}")
        return source.replace(self.code, self.without)
