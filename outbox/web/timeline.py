"""A message's life as a list of what happened, first to last."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from outbox.lifecycle import TERMINAL, Status
from outbox.web.reading import Story


class Tone(StrEnum):
    """How an entry is to be taken."""

    NEUTRAL = "neutral"
    GOOD = "good"
    BAD = "bad"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Happening:
    """One entry. Texts are shown escaped."""

    at_ms: int
    title: str
    tone: Tone = Tone.NEUTRAL
    took_ms: int | None = None
    detail: str | None = None
    by: str | None = None


def timeline(story: Story) -> list[Happening]:
    """What is on record, in order."""
    return sorted(_happenings(story), key=lambda happening: happening.at_ms)


def _happenings(story: Story) -> Iterator[Happening]:
    message = story.message
    yield Happening(message.queued_at, "enqueued")
    for attempt in story.attempts:
        yield Happening(
            attempt.started_at,
            f"attempt {attempt.number}: {attempt.outcome}",
            Tone.BAD if attempt.error else Tone.GOOD,
            attempt.finished_at - attempt.started_at,
            attempt.error,
            attempt.owner,
        )
    for operation in story.operations:
        title = f"{operation.action} by an operator" + (
            f", it was {_words(operation.from_status)}" if operation.from_status else ""
        )
        yield Happening(operation.at, title, Tone.OPERATOR, detail=operation.reason, by=operation.actor)
    if message.status is Status.SENDING and message.last_attempt_at is not None:
        yield Happening(message.last_attempt_at, f"attempt {message.attempt_count}: being sent", by=message.lease_owner)
    if message.status in TERMINAL and message.completed_at is not None:
        tone = Tone.GOOD if message.status is Status.DELIVERED else Tone.BAD
        yield Happening(message.completed_at, _words(message.status), tone, detail=message.terminal_reason)


def _words(status: str) -> str:
    return status.replace("_", " ")
