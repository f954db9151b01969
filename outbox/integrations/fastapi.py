"""celery-outbox in FastAPI and Starlette: messages in the transaction of an ``AsyncSession``, the lifespan, the dashboard."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from outbox import transactions
from outbox.errors import ConfigurationError
from outbox.extras import extra
from outbox.message import NewMessage, Queued
from outbox.outbox import Outbox
from outbox.tasks.calls import QueuedTask

with extra("fastapi", "the integration with FastAPI"):
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import HTTPConnection
    from starlette.types import ASGIApp, Receive, Scope, Send

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

    from outbox.web import Visitor

_Result = TypeVar("_Result")

Identify = Callable[[HTTPConnection], "Visitor | Awaitable[Visitor | None] | None"]
"""Who asks, or ``None`` for who may not come in. A plain function is called in a thread, as FastAPI calls plain endpoints."""

_VISITOR = "outbox.visitor"
_SHORTEST_SECRET = 32


@asynccontextmanager
async def running(outbox: Outbox) -> AsyncIterator[None]:
    """The outbox while an application serves: ``FastAPI(lifespan=lambda app: running(outbox))``, or a block in a lifespan.

    At the end its connections are given back. Raises :class:`~outbox.errors.SchemaError` unless the database has this release's
    schema, so that no request is served that could not enqueue.
    """
    await asyncio.to_thread(outbox.check_schema)
    try:
        yield
    finally:
        await asyncio.to_thread(outbox.close)


class Enqueuer:
    """Writes messages in the open transaction of one asynchronous session or connection, such as a request's.

    Its methods are those of :class:`~outbox.Outbox`, without the transaction, with the errors named there.
    """

    def __init__(self, outbox: Outbox, session: "AsyncSession | AsyncConnection") -> None:
        self._outbox = outbox
        self._handle = transactions.async_handle(session)

    async def enqueue(self, channel: str, **options: Any) -> Queued:
        """Write a message: one statement, no network."""
        return await self._run(self._outbox.enqueue, channel, **options)

    async def enqueue_many(self, messages: Sequence[NewMessage]) -> list[Queued]:
        """Write messages: all of them, or none where one is refused."""
        return await self._run(self._outbox.enqueue_many, messages)

    async def enqueue_reply(self, channel: str, **options: Any) -> list[Queued]:
        """Write a reply of several parts as messages of one turn, sent in order."""
        return await self._run(self._outbox.enqueue_reply, channel, **options)

    async def send_task(
        self, name: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> QueuedTask:
        """Call a Celery task by a message."""
        return await self._run(self._outbox.send_task, name, args, kwargs, **options)

    async def _run(self, call: Callable[..., _Result], *arguments: Any, **options: Any) -> _Result:
        result: _Result = await self._handle.run_sync(call, *arguments, **options)
        return result


def dashboard(
    outbox: Outbox, identify: Identify, *, secret: str, login_url: str | None = None, read_only: bool = False
) -> ASGIApp:
    """The dashboard, for ``app.mount("/outbox", dashboard(…))``.

    :param identify: called with each request; the session of Starlette's ``SessionMiddleware`` is in it.
    :param secret: at least 32 characters with which its forms are protected, the same in all processes.
    :param login_url: where those are sent who may not come in; without it they are refused.
    :param read_only: refuse every change, whoever asks.
    :raises outbox.errors.ConfigurationError: the secret is too short, or the extra ``web`` is not installed.
    """
    with extra("web", "the dashboard"):
        from a2wsgi import WSGIMiddleware

        from outbox.web import Delegated, create_app

    if len(secret) < _SHORTEST_SECRET:
        raise ConfigurationError(f"the dashboard's secret has fewer than {_SHORTEST_SECRET} characters")
    auth = Delegated(lambda environ: environ["asgi.scope"][_VISITOR], login_url, secret.encode())
    application: Any = create_app(outbox, auth=auth, read_only=read_only)  # a2wsgi has types of its own for WSGI
    mounted = WSGIMiddleware(application)

    async def identified(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, _VISITOR: await _visitor(identify, HTTPConnection(scope))}
        await mounted(scope, receive, send)  # type: ignore[arg-type]

    return identified


async def _visitor(identify: Identify, request: HTTPConnection) -> "Visitor | None":
    is_async = inspect.iscoroutinefunction(identify)
    found = identify(request) if is_async else await run_in_threadpool(identify, request)
    return await found if inspect.isawaitable(found) else found
