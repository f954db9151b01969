"""celery-outbox: what you commit is delivered.

The public names. Everything else is reached through :class:`Outbox`.
"""

from outbox.channels.base import Channel
from outbox.errors import (
    NotReady,
    OutboxError,
    OutcomeUnknown,
    PermanentFailure,
    RetryLater,
    Suppressed,
)
from outbox.message import Attempt, Message, NewMessage, Queued, Receipt
from outbox.outbox import Outbox
from outbox.policy.retry import Backoff

__all__ = [
    "Attempt",
    "Backoff",
    "Channel",
    "Message",
    "NewMessage",
    "NotReady",
    "Outbox",
    "OutboxError",
    "OutcomeUnknown",
    "PermanentFailure",
    "Queued",
    "Receipt",
    "RetryLater",
    "Suppressed",
]
