"""A call of any Celery task as a message: what becomes the row's own, and what travels along.

Knows Celery's words and imports none of its code: an application that only enqueues needs no Celery.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from outbox.errors import InvalidMessage
from outbox.message import NewMessage
from outbox.tasks.options import check_names, check_options, check_parts, plain

CHANNEL = "celery"
"""The channel that durable tasks go through unless another one is named."""

_FIELDS = frozenset({"task", "id", "args", "kwargs", "options", "expires"})


@dataclass(frozen=True, slots=True)
class QueuedTask:
    """The answer to a durable call: the id under which Celery keeps the result, and the messages that carry it.

    ``created`` is false where a message with that task id stood there already.
    """

    id: str
    message_ids: Sequence[str]
    created: bool


@dataclass(frozen=True, slots=True)
class TaskCall:
    """A call as its message holds it.

    ``id`` is the task's id where it is not the message's own key; ``expires`` tells that the message's own is the task's too.
    """

    name: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    expires: bool = False
    id: str | None = None


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call as the application makes it: the arguments and the options of ``apply_async``.

    ``id`` is one that was made for this call alone, so that nobody enqueues it again; an application's own is an option.
    """

    name: str
    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None

    def inheriting(self, inherited: Mapping[str, Any]) -> "NewCall":
        """The same call, with what it does not say itself."""
        own = {option: value for option, value in self.options.items() if value is not None}
        return replace(self, options={**inherited, **own})


@dataclass(frozen=True, slots=True)
class Unfolded:
    """A canvas as the calls that start it, and the id of the whole."""

    id: str
    calls: Sequence[NewCall]


@runtime_checkable
class KnowsTasks(Protocol):
    """A channel that knows the Celery application: it can tell what a call inherits, and what a canvas consists of."""

    def inherited(self, task: str) -> Mapping[str, Any]:
        """Options that a call of ``task`` has here and now unless it names them itself."""

    def unfolded(self, canvas: Any, call: NewCall) -> Unfolded:
        """What applying ``canvas`` with the arguments and options of ``call`` comes to.

        Raises :class:`~outbox.errors.InvalidMessage` for a canvas that cannot be kept whole.
        """


def message(channel: str, call: NewCall, **row: Any) -> NewMessage:
    """The message for a call; ``row`` holds further fields of it.

    The task id becomes the idempotency key, ``countdown`` or ``eta`` the due time, and ``expires`` the expiry.

    Raises :class:`~outbox.errors.InvalidMessage` for what a worker could not be given as it is.
    """
    name: object = call.name
    args: object = call.args
    kwargs: object = call.kwargs
    if not isinstance(name, str) or not name:
        raise InvalidMessage(f"a task is named by text, such as 'shop.tasks.pack', not {name!r}")
    if not isinstance(args, list | tuple | None) or not isinstance(kwargs, Mapping | None):
        raise InvalidMessage("a task's args are a list or a tuple, and its kwargs a dictionary")
    given = {option: plain(value) for option, value in call.options.items() if value is not None}
    if given.get("add_to_parent") is False:
        del given["add_to_parent"]
    check_names(given)
    due_in, due_at = _due(given.pop("countdown", None), given.pop("eta", None))
    expires_in = _expiry(given.pop("expires", None), due_in, due_at)
    task_id = given.pop("task_id", None)
    payload = {
        "task": name,
        "id": call.id,
        "args": plain(list(args or ())),
        "kwargs": plain(dict(kwargs or {})),
        "options": given,
        "expires": expires_in is not None,
    }
    payload = {name: value for name, value in payload.items() if value}
    read(payload)
    return NewMessage(
        channel=channel, target=name, payload=payload, idempotency_key=task_id, delay=due_in, due_at=due_at,
        expires_in=expires_in, **row,
    )  # fmt: skip


def read(payload: Any) -> TaskCall:
    """The call that a payload holds. Raises :class:`~outbox.errors.InvalidMessage`."""
    match payload:
        case {"task": str(name)} if name and not payload.keys() - _FIELDS:
            call = TaskCall(
                name,
                payload.get("args", ()),
                payload.get("kwargs", {}),
                payload.get("options", {}),
                payload.get("expires", False) is True,
                payload.get("id"),
            )
        case _:
            raise InvalidMessage("the payload is a dictionary of task, id, args, kwargs, options and expires")
    if not isinstance(call.id, str | None):
        raise InvalidMessage(f"the id of a task is text, not {call.id!r}")
    if not (isinstance(call.args, list | tuple) and isinstance(call.kwargs, dict) and isinstance(call.options, dict)):
        raise InvalidMessage("a task's args are a list, its kwargs and options dictionaries")
    check_options(call.options)
    for part in (call.args, call.kwargs, call.options):
        check_parts(part)
    return call


def _due(countdown: Any, eta: Any) -> tuple[Any, datetime | None]:
    """The delay in seconds, or the moment. What is wrong with either is said where rows are prepared."""
    if countdown is not None and eta is not None:
        raise InvalidMessage("a task takes either countdown or eta")
    if eta is not None and not _is_moment(eta):
        raise InvalidMessage(f"eta must be a datetime with a time zone, not {eta!r}")
    return countdown, eta


def _expiry(expires: Any, due_in: Any, due_at: datetime | None) -> float | None:
    """Seconds from the first due time until the task expires; Celery counts from the call."""
    if expires is None:
        return None
    if isinstance(expires, timedelta):
        expires = expires.total_seconds()
    now = datetime.now(UTC)
    delay = (due_at - now).total_seconds() if due_at is not None else _seconds("countdown", due_in or 0)
    if isinstance(expires, datetime):
        if not _is_moment(expires):
            raise InvalidMessage(f"expires must be seconds, or a datetime with a time zone, not {expires!r}")
        expires = (expires - now).total_seconds()
    left = _seconds("expires", expires) - delay
    if left <= 0:
        raise InvalidMessage("the task would expire before it is due")
    return left


def _seconds(name: str, value: Any) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidMessage(f"{name} must be a number of seconds, not {value!r}")
    return float(seconds)


def _is_moment(value: Any) -> bool:
    return isinstance(value, datetime) and value.utcoffset() is not None
