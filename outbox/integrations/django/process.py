"""The process's one outbox, made of the settings when it is first asked for."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from threading import RLock
from typing import Any, TypeVar

from django.conf import settings
from django.db import transaction

from outbox.channels import configuration as channel_files
from outbox.channels import registry
from outbox.channels.base import Channel
from outbox.errors import TransactionError
from outbox.integrations.django import borrowing, configuration, database, transactions
from outbox.integrations.django.configuration import Configuration, OutsideTransaction
from outbox.integrations.django.functions import DjangoFunction
from outbox.message import Attempt, Message, NewMessage, Queued
from outbox.outbox import Outbox

_Function = TypeVar("_Function", bound=Callable[[Message, Attempt], Any])

EMAIL_BACKEND = "outbox.integrations.django.mail.EmailBackend"
TASKS_BACKEND = "outbox.integrations.django.task_backend.OutboxBackend"


class DjangoOutbox(Outbox):
    """An :class:`~outbox.Outbox` whose transactions may also be named by Django's database alias.

    It relays and delivers over connections of its own; it enqueues on Django's. A database in memory, which tests have, can be
    reached through Django's alone.
    """

    def __init__(self, configured: Configuration, channels: Iterable[Channel]) -> None:
        self.configured = configured
        alias = configured.database
        in_memory = database.is_in_memory(alias)
        super().__init__(
            None if in_memory else database.url_of(alias),
            engine=borrowing.engine_on(alias) if in_memory else None,
            channels=channels,
            table_name=configured.table,
            payload_limit=configured.payload_limit,
            retention=configured.retention,
            log_successes=configured.log_successes,
        )
        if not in_memory:
            database.follow(self.store.engine, alias)
        for channel in _implied(configured):
            self.channels.register(channel, implied=True)

    def channel(self, name: str, **policy: Any) -> Callable[[_Function], _Function]:
        """Register the decorated function as a channel that may use the ORM; keyword arguments are its policy."""

        def register(function: _Function) -> _Function:
            self.register(DjangoFunction(name, function, **policy))
            return function

        return register

    def enqueue_many(self, transaction: Any, messages: Sequence[NewMessage]) -> list[Queued]:
        """Write messages in the open transaction of a database alias, or of whatever else :class:`~outbox.Outbox` joins."""
        if not isinstance(transaction, str):
            return super().enqueue_many(transaction, messages)
        if not database.same_database(transaction, self.configured.database):
            raise TransactionError(
                f"the outbox is in the database {self.configured.database!r}, and a transaction of {transaction!r} shares no"
                " fate with it"
            )
        if not transactions.is_open(transaction):
            self._refuse_outside()
        return self.enqueue_anyway(transaction, messages)

    def enqueue_anyway(self, alias: str, messages: Sequence[NewMessage]) -> list[Queued]:
        """Write messages in the open transaction of the alias, or where there is none in one of their own."""
        with nullcontext() if transactions.is_open(alias) else transaction.atomic(using=alias):
            return super().enqueue_many(transactions.DjangoTransaction(alias), messages)

    def _refuse_outside(self) -> None:
        said = "enqueue outside of transaction.atomic(): the message and the data that it is about may part"
        match self.configured.outside_transaction:
            case OutsideTransaction.ERROR:
                raise TransactionError(f"{said}; open a block, or set OUTBOX['OUTSIDE_TRANSACTION'] to 'warn' or 'allow'")
            case OutsideTransaction.WARN:
                warnings.warn(said, RuntimeWarning, stacklevel=5)
            case OutsideTransaction.ALLOW:
                pass


def outbox() -> DjangoOutbox:
    """The outbox of this process. Raises :class:`~outbox.errors.ConfigurationError`."""
    global _outbox  # noqa: PLW0603 - one for the process, as Django's own connections are
    with _lock:
        if _outbox is None:
            configured = configuration.read()
            _outbox = DjangoOutbox(configured, [*_described(configured), *_declared])
        return _outbox


def forget() -> None:
    """Make another outbox when it is next asked for: the settings have changed, as tests change them."""
    global _outbox  # noqa: PLW0603
    with _lock:
        _outbox = None


def enqueue(channel: str, *, using: str | None = None, **options: Any) -> Queued:
    """Write a message in the open ``transaction.atomic`` block: one statement on Django's connection, no network.

    :param using: the database alias whose block it is; default: that of the outbox.
    :param options: ``target``, ``payload`` and the others of :meth:`outbox.Outbox.enqueue`, with the errors named there.
    """
    here = outbox()
    return here.enqueue(using or here.configured.database, channel, **options)


def enqueue_many(messages: Sequence[NewMessage], *, using: str | None = None) -> list[Queued]:
    """Write messages in the open ``transaction.atomic`` block; see :meth:`outbox.Outbox.enqueue_many`."""
    here = outbox()
    return here.enqueue_many(using or here.configured.database, messages)


def enqueue_reply(channel: str, *, using: str | None = None, **options: Any) -> list[Queued]:
    """Write a reply of several parts in the open ``transaction.atomic`` block; see :meth:`outbox.Outbox.enqueue_reply`."""
    here = outbox()
    return here.enqueue_reply(using or here.configured.database, channel, **options)


def register(channel: Channel) -> None:
    """Add a channel of the project's own, best in an app's ``outbox_channels.py``, which is imported when Django starts.

    Raises :class:`~outbox.errors.ConfigurationError` when it could not work, now or when the outbox is made.
    """
    with _lock:
        if _outbox is not None:
            _outbox.register(channel)
        _declared.append(channel)


def channel(name: str, **policy: Any) -> Callable[[_Function], _Function]:
    """Register the decorated function as a channel, which may use the ORM; see :func:`register`."""

    def declare(function: _Function) -> _Function:
        register(DjangoFunction(name, function, **policy))
        return function

    return declare


def _described(configured: Configuration) -> Iterator[Channel]:
    """The channels that the settings ask for."""
    if isinstance(configured.channels, Mapping):
        yield from (registry.build(name, options) for name, options in configured.channels.items())
    else:
        yield from channel_files.load(configured.channels, os.environ)


def _implied(configured: Configuration) -> Iterator[Channel]:
    """The channels that Django's own mail and tasks need, where the outbox carries them."""
    if _carries_mail():
        from outbox.integrations.django.mail import MailChannel

        yield MailChannel(configured.email_backend, **configured.email_policy)
    if any(backend.get("BACKEND") == TASKS_BACKEND for backend in getattr(settings, "TASKS", {}).values()):
        from outbox.integrations.django.task_backend import TaskChannel

        yield TaskChannel(**configured.tasks_policy)


def _carries_mail() -> bool:
    """Whether Django's mail goes through the outbox: by ``MAILERS`` (from Django 6.1), or by ``EMAIL_BACKEND``."""
    if hasattr(settings, "MAILERS"):
        return any(mailer.get("BACKEND") == EMAIL_BACKEND for mailer in settings.MAILERS.values())
    return bool(settings.is_overridden("EMAIL_BACKEND") and settings.EMAIL_BACKEND == EMAIL_BACKEND)


_lock = RLock()
_declared: list[Channel] = []
_outbox: DjangoOutbox | None = None
