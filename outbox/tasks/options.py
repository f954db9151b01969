"""The options of ``apply_async``: which travel along with a durable task, and which are refused instead of being dropped."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from outbox.errors import InvalidMessage, did_you_mean

CHORD_SIZES = "chord_sizes"
"""Beside Celery's options: the header sizes of a canvas's chords by group id, told to the result backend before publishing."""

_KEPT: Mapping[str, Any] = {
    **dict.fromkeys(
        ("queue", "exchange", "exchange_type", "routing_key", "serializer", "compression", "shadow", "reply_to",
         "correlation_id", "root_id", "parent_id", "group_id", "argsrepr", "kwargsrepr", "route_name", "message_id", "user_id",
         "app_id"),
        str,
    ),
    **dict.fromkeys(("priority", "group_index", "retries", "replaced_task_nesting"), int),
    **dict.fromkeys(("time_limit", "soft_time_limit"), int | float),
    **dict.fromkeys(("ignore_result", "mandatory"), bool),
    **dict.fromkeys(("link", "link_error"), dict | list | tuple),
    **dict.fromkeys(("chain", "stamped_headers"), list | tuple),
    **dict.fromkeys(("headers", "chord", CHORD_SIZES), dict),
    "delivery_mode": str | int,
}  # fmt: skip
"""Options of ``apply_async`` that travel along → what they hold."""

_OF_THE_ROW = frozenset({"countdown", "eta", "expires", "task_id"})

_REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("retry", "retry_policy"),
        "the outbox itself publishes again, by the backoff and max_attempts of the channel",
    ),
    **dict.fromkeys(
        ("producer", "publisher", "connection", "router", "result_cls", "declare", "task_type", "event_dispatcher", "timeout",
         "confirm_timeout"),
        "it belongs to the process that publishes, and that is a worker",
    ),
    "add_to_parent": "the transaction may yet be rolled back, so a task enqueued in it is nobody's child",
    "expiration": "say expires, which the worker sees too",
}  # fmt: skip

NOT_JSON = frozenset({"pickle", "yaml", "application/x-python-serialize", "application/x-yaml"})


def check_names(given: Mapping[str, Any]) -> None:
    """Refuse options that a durable task does not have. Raises :class:`~outbox.errors.InvalidMessage` with the reason."""
    stamps = given.get("stamped_headers")
    known = {*_KEPT, *_OF_THE_ROW, *(stamps if isinstance(stamps, list | tuple) else ())}
    for option in given:
        if option in _REFUSED:
            raise InvalidMessage(f"{option} is not for a durable task: {_REFUSED[option]}")
        if option not in known:
            raise InvalidMessage(f"a durable task has no option {option!r}{did_you_mean(option, known)}")


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what cannot be stored, or was not written by :func:`outbox.tasks.calls.message`."""
    check_names(options)
    for option, value in options.items():
        if option in _OF_THE_ROW:
            raise InvalidMessage(f"{option} is a field of the message, not an option of the payload")
        kind = _KEPT.get(option)
        if kind is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise InvalidMessage(f"{option} is a {type(value).__name__}, which cannot be stored; name it by text or number")
    _check_serializer(options)


def _check_serializer(options: Mapping[str, Any]) -> None:
    if options.get("serializer") in NOT_JSON:
        raise InvalidMessage(f"the serializer {options['serializer']!r} is not for a durable task: say 'json', or nothing")


def task_ids(whole: Any) -> frozenset[str]:
    """The ids that an application gave to steps of a canvas."""
    steps = (part["options"] for part in _parts(whole) if _is_step(part))
    return frozenset(step["task_id"] for step in steps if isinstance(step.get("task_id"), str))


def check_parts(whole: Any) -> None:
    """Refuse what is stored well and would be lost on the way to the worker, however deep it lies."""
    for part in _parts(whole):
        if isinstance(part, timedelta):
            raise InvalidMessage("Celery's JSON has no timedelta: give a task its seconds")
        if _is_step(part):
            step = part["options"]
            if step.get("countdown") or step.get("eta"):
                raise InvalidMessage(
                    f"the step {part['task']!r} of a canvas has a countdown or eta, for which it would wait in the broker; "
                    "let the step before it enqueue it instead"
                )
            _check_serializer(step)


def _is_step(part: Any) -> bool:
    return isinstance(part, dict) and {"task", "options", "subtask_type"} <= part.keys() and isinstance(part["options"], dict)


def _parts(whole: Any) -> Iterator[Any]:
    """Everything in it, itself included."""
    waiting = [whole]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list | tuple):
            waiting.extend(part)


def plain(value: Any) -> Any:
    """``value`` with Celery's signatures, which are dictionaries, and its lists as Python's own."""
    try:
        return _plain_part(value)
    except RecursionError:
        raise InvalidMessage("the arguments are nested too deeply") from None


def _plain_part(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_part(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_part(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_plain_part(item) for item in value)
    return value
