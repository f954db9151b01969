"""celery-outbox: what you commit is delivered.

The public names; everything else is reached through :class:`Outbox`. Each is imported when it is first asked for, so that a
process which only passes by, as every pytest run does for the sake of the fixtures, does not pay for SQLAlchemy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "outbox.channels.base": ("Channel",),
    "outbox.errors": ("NotReady", "OutboxError", "OutcomeUnknown", "PermanentFailure", "RetryLater", "Suppressed"),
    "outbox.message": ("Attempt", "Message", "NewMessage", "Queued", "Receipt"),
    "outbox.outbox": ("Outbox",),
    "outbox.policy.retry": ("Backoff",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
