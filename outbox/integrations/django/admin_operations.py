"""The operators' verbs from the admin: in one transaction with the admin's own log, recorded with who and why in both."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction

from outbox.integrations.django import borrowing, configuration
from outbox.integrations.django.models import Gate, Message
from outbox.outbox import Outbox
from outbox.store.records import OperatorResult

Verb = Callable[[Any, Sequence[str], str], OperatorResult]
"""``verb(user, message_ids, reason)``; raises an :class:`~outbox.errors.OutboxError` where the database refuses it."""


def retry(user: Any, ids: Sequence[str], reason: str) -> OperatorResult:
    """Make messages due again."""
    return _operate(user, ids, reason, "Made due again", lambda outbox, **record: outbox.retry(ids, **record))


def cancel(user: Any, ids: Sequence[str], reason: str) -> OperatorResult:
    """Withdraw messages."""
    return _operate(user, ids, reason, "Cancelled", lambda outbox, **record: outbox.cancel(ids, **record))


def resolve_sent(user: Any, ids: Sequence[str], reason: str) -> OperatorResult:
    """Say of parked messages that they were sent."""
    return _operate(user, ids, reason, "Resolved as sent", lambda outbox, **record: outbox.resolve(ids, sent=True, **record))


def resolve_not_sent(user: Any, ids: Sequence[str], reason: str) -> OperatorResult:
    """Say of parked messages that they were not sent."""
    return _operate(
        user, ids, reason, "Resolved as not sent", lambda outbox, **record: outbox.resolve(ids, sent=False, **record)
    )


def pause(user: Any, channel: str, target: str, for_s: float | None, reason: str) -> None:
    """Stop sending through a channel, or to one of its targets."""
    with _in_transaction() as outbox:
        outbox.pause(channel, target=target, for_s=for_s, reason=reason, actor=user.get_username())
        _log_channel(user, channel, target, "Paused", reason)


def resume(user: Any, channel: str, target: str, reason: str) -> None:
    """Open a channel, or one of its targets, again."""
    with _in_transaction() as outbox:
        outbox.resume(channel, target=target, reason=reason or None, actor=user.get_username())
        _log_channel(user, channel, target, "Resumed", reason)


@contextmanager
def _in_transaction() -> Iterator[Outbox]:
    """An outbox whose verbs are part of one transaction, with whatever else is done in it."""
    configured = configuration.read()
    with transaction.atomic(using=configured.database):
        yield borrowing.outbox_on(configured.database, configured.table)


def _operate(user: Any, ids: Sequence[str], reason: str, done: str, act: Callable[..., OperatorResult]) -> OperatorResult:
    with _in_transaction() as outbox:
        result = act(outbox, actor=user.get_username(), reason=reason or None)
        changed = Message.objects.using(configuration.read().database).filter(message_id__in=result.changed)
        LogEntry.objects.log_actions(user.pk, changed.only("message_id", "channel"), CHANGE, _with(done, reason))
    return result


def _log_channel(user: Any, channel: str, target: str, done: str, reason: str) -> None:
    LogEntry.objects.create(
        user_id=user.pk,
        content_type=ContentType.objects.get_for_model(Gate),
        object_id=channel,
        object_repr=f"{channel} to {target}"[:200] if target else channel,
        action_flag=CHANGE,
        change_message=_with(done, reason),
    )


def _with(done: str, reason: str) -> str:
    return f"{done}: {reason}" if reason else done
