"""From an entry of the old queue to rows of the outbox: one row for each part of the reply, with the history it had.

All parts share the entry's id as their turn and one ordering key: they are sent in order, and after a failure the delivery
resumes at the part that is missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from outbox import replies
from outbox.channels.base import Channel, ExpireAction
from outbox.channels.registry import ChannelRegistry
from outbox.errors import InvalidMessage, UnknownChannel
from outbox.legacy import translating
from outbox.legacy.directory import Place
from outbox.legacy.entry import Entry, EntryRefused
from outbox.legacy.summary import Fate
from outbox.lifecycle import Status
from outbox.message import ErrorClass, NewMessage
from outbox.outcome import Rejected
from outbox.policy.classification import classify_text
from outbox.policy.retry import ATTEMPTS_USED_UP, RetryPolicy
from outbox.preparing import Preparer
from outbox.store.records import History, ImportedEntry, NewRow

DEFAULT_TTL_MS = 1_800_000
"""The old queue's TTL, 30 minutes: for channels that have none of their own, or are not known here."""

OLD_DEAD_LETTER = "a dead letter of the old queue"
TOO_OLD = "older than its TTL"

_EARLIEST_MS = 1_000_000_000_000
"""September 2001: a smaller number is no epoch in milliseconds."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What an entry's times are judged by: the present, and when its file was last written (epoch milliseconds)."""

    now_ms: int
    modified_ms: int

    def believes(self, time_ms: int | None) -> bool:
        """Whether that may be a time at which something happened: not missing, absurd, or in the future."""
        return time_ms is not None and _EARLIEST_MS <= time_ms <= self.now_ms

    def of_enqueue(self, entry: Entry) -> int:
        """When the entry was enqueued; where it does not say so credibly, when its file was last written."""
        if entry.enqueued_at is not None and self.believes(entry.enqueued_at):
            return entry.enqueued_at
        return min(self.modified_ms, self.now_ms)

    def of_last_attempt(self, entry: Entry) -> int | None:
        """When it was tried last, as far as that is credible."""
        return entry.last_attempt_at if self.believes(entry.last_attempt_at) else None


@dataclass(frozen=True, slots=True)
class Mapper:
    """Makes rows for one outbox. ``ttl_ms``, where it is given, beats what the channels say."""

    preparer: Preparer
    ttl_ms: int | None = None

    def map(self, entry: Entry, place: Place, moment: Moment, digest: str) -> ImportedEntry:
        """What to store. Raises :class:`~outbox.legacy.entry.EntryRefused` where the outbox would not take the messages."""
        channel = self.preparer.channels.find(entry.channel)
        policy = channel.retry_policy if channel is not None else RetryPolicy()
        queued_at = moment.of_enqueue(entry)
        ttl_ms = self._ttl_ms(channel)
        fate = _fate(entry, place, policy, is_old=ttl_ms is not None and moment.now_ms - queued_at > ttl_ms)
        history = History(
            status=_STATUS[fate] if fate is not Fate.IMPORTED or entry.retry_count == 0 else Status.FAILED_RETRYABLE,
            queued_at=queued_at,
            attempt_count=entry.retry_count,
            next_attempt_at=_due_at(entry, queued_at, moment, policy),
            expires_at=None if ttl_ms is None else queued_at + ttl_ms,
            last_attempt_at=moment.of_last_attempt(entry),
            last_error=entry.last_error,
            error_class=_error_class(entry, fate),
            terminal_reason=_reason(place, fate),
            completed_at=None if fate is Fate.IMPORTED else moment.now_ms,
        )
        return ImportedEntry(entry.id.lower(), digest, fate, self._rows(entry, channel, policy, fate), history)

    def _ttl_ms(self, channel: Channel | None) -> int | None:
        if self.ttl_ms is not None:
            return self.ttl_ms
        if channel is not None and channel.expire_action is ExpireAction.DELIVER:
            return None
        return (channel.ttl_ms if channel is not None else None) or DEFAULT_TTL_MS

    def _rows(self, entry: Entry, channel: Channel | None, policy: RetryPolicy, fate: Fate) -> Sequence[NewRow]:
        # What is only kept, for the record, need not be what its channel can express, nor of a channel that is known.
        preparer = self.preparer if fate is Fate.IMPORTED else replace(self.preparer, channels=ChannelRegistry())
        try:
            rows = preparer.rows(list(_messages(entry, channel)))
        except (InvalidMessage, UnknownChannel) as error:
            raise EntryRefused(str(error)) from error
        if not rows:
            raise EntryRefused("none of its payloads says anything")
        return [row._replace(max_attempts=policy.max_attempts) for row in rows]


def _messages(entry: Entry, channel: Channel | None) -> Iterator[NewMessage]:
    """The reply's messages by the rules of every reply; parts that say nothing are left out."""
    contents = [translating.content(entry, part) for part in entry.parts]
    thread_id = translating.thread_id(entry)
    common = NewMessage(channel=entry.channel, target=entry.target, account_id=entry.account_id, turn_id=entry.id)
    common = replace(common, ordering_key=_ordering_key(channel, common, {**contents[0], "thread_id": thread_id}))
    for index, (part, content) in enumerate(zip(entry.parts, contents, strict=True)):
        if not any(content.get(key) for key in ("text", "media", "extra")):
            continue
        key = f"legacy:{entry.id.lower()}:{index}"
        own = replace(common, headers=translating.verbatim(entry, part), idempotency_key=key)
        reply_to = translating.reply_to(entry.options)
        yield from replies.messages(channel, own, [content], reply_to=reply_to, thread_id=thread_id)


def _ordering_key(channel: Channel | None, common: NewMessage, first: Mapping[str, Any]) -> str:
    """The key that the channel gives to new messages of the conversation; else account, target and thread."""
    own = channel.ordering_key_for(replace(common, payload=first)) if channel is not None else None
    thread_id = first["thread_id"]
    return own or f"{common.account_id}|{common.target}" + ("" if thread_id is None else f"|{thread_id!r}")


_STATUS = {Fate.IMPORTED: Status.QUEUED, Fate.EXPIRED: Status.EXPIRED, Fate.DEAD: Status.FAILED_TERMINAL}


def _fate(entry: Entry, place: Place, policy: RetryPolicy, *, is_old: bool) -> Fate:
    if place is Place.DEAD:
        return Fate.DEAD
    if is_old:
        return Fate.EXPIRED
    return Fate.DEAD if entry.retry_count >= policy.max_attempts else Fate.IMPORTED


def _due_at(entry: Entry, queued_at: int, moment: Moment, policy: RetryPolicy) -> int:
    """The pause after the last failed attempt counts from that attempt, and never from the import."""
    tried_at = moment.of_last_attempt(entry)
    return (queued_at if tried_at is None else tried_at) + policy.backoff.after(entry.retry_count)


def _error_class(entry: Entry, fate: Fate) -> ErrorClass | None:
    if fate is Fate.EXPIRED:
        return ErrorClass.EXPIRED
    if entry.last_error is None:
        return None
    permanent = fate is Fate.DEAD and isinstance(classify_text(entry.last_error), Rejected)
    return ErrorClass.PERMANENT if permanent else ErrorClass.TRANSIENT


def _reason(place: Place, fate: Fate) -> str | None:
    if fate is Fate.IMPORTED:
        return None
    if fate is Fate.EXPIRED:
        return TOO_OLD
    return OLD_DEAD_LETTER if place is Place.DEAD else ATTEMPTS_USED_UP
