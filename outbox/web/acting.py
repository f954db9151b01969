"""What an operator does from the dashboard: the façade's verbs, in short transactions, on record with who and why."""

import logging
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import assert_never

from outbox.errors import did_you_mean
from outbox.lifecycle import Event, Status
from outbox.outbox import BULK_LIMIT, Outbox
from outbox.store.records import MessageFilter, OperatorResult, Refusal
from outbox.web.access import Visitor
from outbox.web.problems import Problem

CHUNK = 500
"""Messages that one transaction changes: short enough that nobody waits for it."""
LONGEST_PAUSE_S = 366 * 86_400.0
LONGEST_REASON = 1_000
LONGEST_CHANNEL = 63
LONGEST_TARGET = 2_000
"""Bytes; an index of PostgreSQL holds no more than a little above that."""

_log = logging.getLogger("outbox.web")


class Verb(StrEnum):
    """What can be done to messages."""

    RETRY = "retry"
    CANCEL = "cancel"
    RESOLVE_SENT = "resolve_sent"
    RESOLVE_NOT_SENT = "resolve_not_sent"


def parsed_verb(text: str) -> Verb:
    """The verb of that name. Raises :class:`~outbox.web.problems.Problem`."""
    if text not in list(Verb):
        raise Problem(400, "invalid-parameter", f"there is nothing called {text!r} to do{did_you_mean(text, map(str, Verb))}")
    return Verb(text)


def parsed_reason(text: str) -> str | None:
    """Why, for the record. Raises :class:`~outbox.web.problems.Problem` for more than anybody would read."""
    reason = text.strip()
    if len(reason) > LONGEST_REASON:
        raise Problem(400, "invalid-parameter", f"a reason is text of at most {LONGEST_REASON} characters")
    return reason or None


def meant(outbox: Outbox, verb: Verb, wanted: MessageFilter) -> list[str]:
    """The messages that a filter means and the verb applies to; at most :data:`~outbox.outbox.BULK_LIMIT`.

    A retry means dead letters unless the filter names a status, as on the command line.
    """
    if wanted.is_empty:
        raise Problem(400, "filter-needed", "name the messages by a filter: this would touch every one")
    match verb:
        case Verb.RETRY:
            status = wanted.status or Status.FAILED_TERMINAL
            return [*outbox.store.rehearse(Event.REPLAY, _with_status(wanted, status), BULK_LIMIT).changed]
        case Verb.CANCEL:
            return [*outbox.store.rehearse(Event.CANCEL, wanted, BULK_LIMIT).changed]
        case Verb.RESOLVE_SENT | Verb.RESOLVE_NOT_SENT:
            return [*outbox.store.rehearse(Event.RESOLVE_SENT, wanted, BULK_LIMIT).changed]
        case _:
            assert_never(verb)


def act(outbox: Outbox, verb: Verb, ids: Sequence[str], visitor: Visitor, reason: str | None) -> OperatorResult:
    """Do it to the messages with these ids; what it does not apply to is refused by name."""
    changed: list[str] = []
    refused: list[Refusal] = []
    distinct = list(dict.fromkeys(ids))
    for first in range(0, len(distinct), CHUNK):
        result = _verb_of(outbox, verb)(distinct[first : first + CHUNK], actor=visitor.name, reason=reason)
        changed += result.changed
        refused += result.refused
    _log.info("%s by %s: %d changed, %d refused", verb, visitor.name, len(changed), len(refused))
    return OperatorResult(changed, refused)


def pause(
    outbox: Outbox, channel: str, target: str, for_s: float | None, visitor: Visitor, reason: str | None
) -> None:  # fmt: skip
    """Stop sending through a channel or to one of its targets."""
    if not 0 < len(channel) <= LONGEST_CHANNEL or len(target.encode()) > LONGEST_TARGET:
        raise Problem(400, "invalid-parameter", "no channel has such a name, or no target is that long")
    if for_s is not None and not 0 < for_s <= LONGEST_PAUSE_S:
        raise Problem(400, "invalid-parameter", "a pause lasts more than nothing and at most a year")
    outbox.pause(channel, target=target, for_s=for_s, reason=reason or "", actor=visitor.name)
    _log.info("pause of channel %s by %s", channel, visitor.name)


def resume(outbox: Outbox, channel: str, target: str | None, visitor: Visitor, reason: str | None) -> int:
    """Open a channel (``target`` empty), one of its targets, or all of them (``None``); returns how many were closed."""
    opened = outbox.resume(channel, target=target, actor=visitor.name, reason=reason)
    _log.info("resume of channel %s by %s: %d opened", channel, visitor.name, opened)
    return opened


def _verb_of(outbox: Outbox, verb: Verb) -> Callable[..., OperatorResult]:
    match verb:
        case Verb.RETRY:
            return outbox.retry
        case Verb.CANCEL:
            return outbox.cancel
        case Verb.RESOLVE_SENT | Verb.RESOLVE_NOT_SENT:
            return lambda ids, **record: outbox.resolve(ids, sent=verb is Verb.RESOLVE_SENT, **record)
        case _:
            assert_never(verb)


def _with_status(wanted: MessageFilter, status: Status) -> MessageFilter:
    return MessageFilter(status=status, channel=wanted.channel, target=wanted.target, turn_id=wanted.turn_id)
