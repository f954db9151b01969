"""What was enqueued, and failures that tell what was enqueued instead."""

from collections.abc import Sequence
from dataclasses import fields
from difflib import SequenceMatcher, ndiff
from operator import attrgetter
from pprint import pformat
from typing import Any

from outbox.errors import did_you_mean
from outbox.message import Message
from outbox.outbox import Outbox

MOST = 10_000
"""Messages that are looked at, the newest."""
_CONTENT = ("payload", "headers", "receipt")
_COLUMNS = frozenset({*(field.name for field in fields(Message)), *_CONTENT})


def enqueued(outbox: Outbox, channel: str | None = None, **wanted: Any) -> list[Message]:
    """The committed messages that are as wanted, in the order of their enqueue, whatever became of them since.

    ``wanted`` names columns of a message: ``target="42"``, ``payload={…}``, ``status="delivered"``.
    """
    _refuse_misspelt(wanted)
    return [message for message in _all(outbox, channel) if _differences(message, wanted) == []]


def assert_enqueued(outbox: Outbox, channel: str, **wanted: Any) -> Message:
    """Exactly one committed message is as wanted; returns it. Fails with what the closest one has instead."""
    __tracebackhide__ = True
    found = enqueued(outbox, channel, **wanted)
    if len(found) != 1:
        raise AssertionError("\n".join(_explanation(outbox, channel, wanted, found)))
    return found[0]


def assert_nothing_enqueued(outbox: Outbox, channel: str | None = None, **wanted: Any) -> None:
    """No committed message is as wanted; without arguments: there is none at all."""
    __tracebackhide__ = True
    found = enqueued(outbox, channel, **wanted)
    if found:
        raise AssertionError("\n".join([f"{_count(found)} enqueued, and none was to be:", *map(_line, found)]))


def _all(outbox: Outbox, channel: str | None) -> list[Message]:
    return sorted(outbox.list(channel=channel, limit=MOST), key=attrgetter("seq"))


def _differences(message: Message, wanted: dict[str, Any]) -> list[str]:
    return [column for column, value in wanted.items() if getattr(message, column) != value]


def _refuse_misspelt(wanted: dict[str, Any]) -> None:
    for column in wanted:
        if column not in _COLUMNS:
            raise TypeError(f"a message has no column {column!r}{did_you_mean(column, _COLUMNS)}")


def _explanation(outbox: Outbox, channel: str, wanted: dict[str, Any], found: Sequence[Message]) -> Sequence[str]:
    meant = f"a message of channel {channel!r}" + "".join(f", {column}={value!r}" for column, value in wanted.items())
    if found:
        return [f"{_count(found)} instead of one are {meant}:", *map(_line, found)]
    if of_channel := _all(outbox, channel):
        closest = max(of_channel, key=lambda message: _likeness(message, wanted))
        differences = [_difference(closest, column, wanted[column]) for column in _differences(closest, wanted)]
        lines = [f"nobody enqueued {meant}", f"the closest of {_count(of_channel)} of that channel:", _line(closest)]
        return [*lines, *(line for difference in differences for line in difference)]
    if every := _all(outbox, None):
        return [f"nobody enqueued {meant}, nor anything else of that channel; there is:", *map(_line, every)]
    return [f"nobody enqueued {meant}, nor anything else: was the transaction committed?"]


def _likeness(message: Message, wanted: dict[str, Any]) -> tuple[int, float]:
    """How many columns are as wanted, and how much the others look like it."""
    different = _differences(message, wanted)
    alike = sum(SequenceMatcher(None, _text(getattr(message, column)), _text(wanted[column])).ratio() for column in different)
    return -len(different), alike


def _difference(message: Message, column: str, wanted: Any) -> list[str]:
    """A column as a diff: ``-`` is what was wanted, ``+`` what it has."""
    diff = ndiff(_text(wanted).splitlines(), _text(getattr(message, column)).splitlines())
    return [f"  {column} (- wanted, + enqueued):", *(f"    {line.rstrip()}" for line in diff)]


def _text(value: Any) -> str:
    return pformat(value, width=80, sort_dicts=True)


def _line(message: Message) -> str:
    return f"  #{message.seq} {message.channel} → {message.target or 'nowhere'}, {message.status}, payload {message.payload!r}"


def _count(messages: Sequence[Message]) -> str:
    return f"{len(messages)} message{'' if len(messages) == 1 else 's'}"
