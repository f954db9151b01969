"""What the people say: ``conversations.txt``, one side of some fifty conversations, written for this example."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("conversations.txt")


@dataclass(frozen=True)
class Conversation:
    """Somebody's lines, in order."""

    name: str
    lines: Sequence[str]


def conversations() -> list[Conversation]:
    """All of them. A block begins with ``# name: topic``; its other lines are what is said."""
    blocks = FILE.read_text(encoding="utf-8").strip().split("\n\n")
    return [_conversation(block.splitlines()) for block in blocks[1:]]  # the first says what the file is


def _conversation(lines: Sequence[str]) -> Conversation:
    name, _, _topic = lines[0].removeprefix("# ").partition(":")
    return Conversation(name, lines[1:])
