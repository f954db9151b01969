"""The code blocks of the documentation, the README and the examples' own."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

PROJECT = Path(__file__).parents[3]
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block; ``page`` is its path in the project."""

    page: str
    line: int
    language: str
    code: str


def pages() -> list[str]:
    """Every page that is written for people."""
    found = [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"), *(PROJECT / "examples").rglob("*.md")]
    return sorted(page.relative_to(PROJECT).as_posix() for page in found)


def blocks_of(page: str) -> Iterator[Block]:
    """The blocks of a page, in order."""
    text = (PROJECT / page).read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        yield Block(page, text[: found.start()].count("\n") + 1, found["language"], dedent(found["code"]))


def code(page: str, language: str) -> list[str]:
    """What the blocks of a page in a language say. Unpack it, so that one more does not go unnoticed."""
    return [block.code for block in blocks_of(page) if block.language == language]
