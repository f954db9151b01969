"""The extension: one for the module that declares channels, one outbox for each application that it is initialised with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from weakref import WeakSet

from flask import Flask, current_app
from sqlalchemy import Engine

from outbox.channels.base import Channel
from outbox.errors import ConfigurationError, TransactionError
from outbox.integrations.flask import commands, configuration
from outbox.integrations.flask.functions import FlaskFunction
from outbox.message import Attempt, Message, NewMessage, Queued
from outbox.outbox import Outbox
from outbox.tasks.calls import QueuedTask

_Function = TypeVar("_Function", bound=Callable[[Message, Attempt], Any])

EXTENSION = "outbox"
"""Where an application keeps its :class:`~outbox.Outbox`: ``app.extensions["outbox"]``."""


class FlaskOutbox:
    """``outbox = FlaskOutbox()``, and ``outbox.init_app(app)`` in the factory, after ``db.init_app(app)``.

    :param app: the application, where there is no factory.
    :param engine: that of an application without Flask-SQLAlchemy; default: the engine of its default bind.
    :param channels: adapters that every application gets, beside those of its ``OUTBOX_CHANNELS``.
    """

    def __init__(self, app: Flask | None = None, *, engine: Engine | None = None, channels: Iterable[Channel] = ()) -> None:
        self._adapters: list[Callable[[Flask], Channel]] = []
        self._apps: WeakSet[Flask] = WeakSet()
        for channel in channels:
            self.register(channel)
        if app is not None:
            self.init_app(app, engine=engine)
        elif engine is not None:
            raise ConfigurationError("an engine belongs to an application: give it to init_app")

    def init_app(self, app: Flask, *, engine: Engine | None = None) -> Outbox:
        """Give the application its outbox, and ``flask outbox`` its commands; returns the outbox.

        Raises :class:`~outbox.errors.ConfigurationError` for an ``OUTBOX_…`` key of its configuration that cannot be meant, a
        channel that could not work, or where no database is known.
        """
        if EXTENSION in app.extensions:
            raise ConfigurationError(f"the application {app.name!r} has an outbox already")
        configured = configuration.read(app.config)
        outbox = Outbox(
            engine=engine if engine is not None else _engine_of(app),
            channels=[*configured.built_channels(), *(adapter(app) for adapter in self._adapters)],
            table_name=configured.table,
            payload_limit=configured.payload_limit,
            retention=configured.retention,
            log_successes=configured.log_successes,
        )
        app.extensions[EXTENSION] = outbox
        app.cli.add_command(commands.outbox)
        self._apps.add(app)
        return outbox

    @property
    def current(self) -> Outbox:
        """The outbox of the current application. Raises :class:`~outbox.errors.ConfigurationError` where it has none."""
        return current_outbox()

    def register(self, channel: Channel) -> None:
        """Add a channel to every application. Raises :class:`~outbox.errors.ConfigurationError` when it could not work."""
        self._add(lambda _app: channel)

    def channel(self, name: str, **policy: Any) -> Callable[[_Function], _Function]:
        """Register the decorated function as a channel that is called in the application's context, ``db.session`` included.

        Keyword arguments are its policy (``timeout=`` and the like).
        """

        def register(function: _Function) -> _Function:
            self._add(lambda app: FlaskFunction(app, name, function, **policy))
            return function

        return register

    def enqueue(self, channel: str, *, session: Any = None, **options: Any) -> Queued:
        """Write a message in the transaction of ``db.session``: one statement, no network.

        :param session: what holds the transaction instead.
        :param options: ``target``, ``payload`` and the others of :meth:`outbox.Outbox.enqueue`, with the errors named there.
        """
        return self.current.enqueue(_session(session), channel, **options)

    def enqueue_many(self, messages: Sequence[NewMessage], *, session: Any = None) -> list[Queued]:
        """Write messages in the transaction of ``db.session``; see :meth:`outbox.Outbox.enqueue_many`."""
        return self.current.enqueue_many(_session(session), messages)

    def enqueue_reply(self, channel: str, *, session: Any = None, **options: Any) -> list[Queued]:
        """Write a reply of several parts in the transaction of ``db.session``; see :meth:`outbox.Outbox.enqueue_reply`."""
        return self.current.enqueue_reply(_session(session), channel, **options)

    def send_task(
        self, name: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, *, session: Any = None,
        **options: Any,
    ) -> QueuedTask:  # fmt: skip
        """Call a Celery task by a message in the transaction of ``db.session``; see :meth:`outbox.Outbox.send_task`."""
        return self.current.send_task(_session(session), name, args, kwargs, **options)

    def _add(self, adapter: Callable[[Flask], Channel]) -> None:
        for app in self._apps:
            app.extensions[EXTENSION].register(adapter(app))
        self._adapters.append(adapter)


def current_outbox() -> Outbox:
    """The outbox of the current application. Raises :class:`~outbox.errors.ConfigurationError` where it has none."""
    try:
        outbox: Outbox = current_app.extensions[EXTENSION]
    except KeyError:
        raise ConfigurationError(f"the application {current_app.name!r} has no outbox: call init_app in its factory") from None
    return outbox


def _engine_of(app: Flask) -> Engine:
    """That of Flask-SQLAlchemy's default bind. It is found as Flask finds extensions, so that nobody else must have it."""
    database = app.extensions.get("sqlalchemy")
    if database is None:
        raise ConfigurationError("no database is known: call db.init_app(app) of Flask-SQLAlchemy before, or give an engine")
    with app.app_context():
        engine: Engine = database.engine
    return engine


def _session(given: Any) -> Any:
    if given is not None:
        return given
    database = current_app.extensions.get("sqlalchemy")
    if database is None:
        raise TransactionError("without Flask-SQLAlchemy, name what holds your open transaction: session=…")
    return database.session
