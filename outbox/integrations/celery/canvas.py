"""A canvas as the calls that start it: Celery unfolds it as ever, and what it would publish is kept instead.

So each task that starts at once is a message of its own, and one that was published is not published again for a neighbour.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from celery import Celery, Signature
from celery.app.registry import TaskRegistry
from celery.backends.base import BaseBackend
from celery.canvas import chunks
from celery.result import GroupResult
from celery.utils import uuid

from outbox.errors import InvalidMessage
from outbox.tasks.calls import NewCall, Unfolded
from outbox.tasks.options import CHORD_SIZES, plain, task_ids

_OF_THE_CALLER = frozenset({"producer", "publisher", "connection", "router", "result_cls", "task_type"})
"""What Celery hands from call to call in one process; a canvas of the application's own holds none of it."""


def unfold(app: Celery, canvas: Any, call: NewCall) -> Unfolded:
    """What ``canvas.apply_async(...)`` with the arguments and options of ``call`` would publish. Touches no server.

    Raises :class:`~outbox.errors.InvalidMessage` for what is no canvas, starts nothing, or needs the result backend to start.
    """
    if not isinstance(canvas, Signature):
        raise InvalidMessage(f"a canvas is a signature, such as add.s(1) or a chain, not {type(canvas).__name__}")
    if isinstance(canvas, chunks):
        canvas = canvas.group()
    whole = plain(canvas)
    recorder = _Recorder(app, named=task_ids(whole) | {call.options.get("task_id")})
    try:
        copy: Any = Signature.from_dict(whole, app=recorder)
        result = copy.apply_async(call.args, call.kwargs, **call.options)
    finally:
        recorder.close()
    if not recorder.calls:
        raise InvalidMessage("the canvas is empty: there is nothing to start")
    if recorder.chord_sizes:
        recorder.calls = [replace(kept, options={**kept.options, CHORD_SIZES: recorder.chord_sizes}) for kept in recorder.calls]
    return Unfolded(result.id, recorder.calls)


def announce_chords(app: Celery, sizes: Mapping[str, int]) -> None:
    """Tell the result backend of how many tasks each chord's header consists, before any of them can end. May be repeated."""
    for group_id, size in sizes.items():
        app.backend.set_chord_size(group_id, size)


class _Recorder(Celery):
    """An application that keeps what it is told to send. It knows no tasks, so that every signature comes to that."""

    def __init__(self, real: Celery, named: frozenset[str | None]) -> None:
        super().__init__(real.main, set_as_current=False)
        self.real = real
        self.named = named
        self.calls: list[NewCall] = []
        self.chord_sizes: dict[str, int] = {}
        for setting in ("task_protocol", "task_allow_error_cb_on_chord_header", "timezone", "enable_utc"):
            self.conf[setting] = real.conf[setting]

    def send_task(  # type: ignore[override] # whatever the options are, they are kept
        self, name: str, args: Any = None, kwargs: Any = None, **options: Any
    ) -> Any:
        task_id = options.get("task_id") or uuid()
        meant = {option: value for option, value in options.items() if option not in _OF_THE_CALLER}
        if task_id in self.named:
            self.calls.append(NewCall(name, args, kwargs, meant))
        else:
            meant.pop("task_id", None)
            self.calls.append(NewCall(name, args, kwargs, meant, task_id))
        return self.AsyncResult(task_id)

    def producer_or_acquire(self, producer: Any = None) -> Any:
        return nullcontext(producer)  # or each group would leave a producer of no broker in kombu's pools

    @property
    def tasks(self) -> TaskRegistry:
        return TaskRegistry()

    @property
    def thread_oid(self) -> str:
        return str(self.real.thread_oid)

    @property
    def backend(self) -> BaseBackend:
        return _Joins(app=self)


class _Joins(BaseBackend):
    """What a chord asks of the result backend before its header starts: kept for the publishing, or refused."""

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        recorder: Any = self
        recorder.app.chord_sizes[group_id] = chord_size

    def apply_chord(self, header_result_args: Any, body: Any, **_options: Any) -> None:
        recorder: Any = self
        backend = recorder.app.real.backend
        if not _joins_by_itself(backend):
            raise InvalidMessage(
                f"a durable chord needs a result backend that joins by itself, such as Redis: {type(backend).__name__} would "
                "poll for the header's results with a countdown in the broker, or write before the commit"
            )
        if any(isinstance(part, GroupResult) for part in header_result_args[1]):
            raise InvalidMessage(
                "the header of a durable chord holds single tasks and chains: for groups and chords in it Celery writes to "
                "the result backend before the commit"
            )


def _joins_by_itself(backend: BaseBackend) -> bool:
    """Whether it is Celery's Redis backend, whose module can be imported only where there is a Redis client."""
    try:
        from celery.backends.redis import RedisBackend
    except ImportError:
        return False
    return isinstance(backend, RedisBackend)
