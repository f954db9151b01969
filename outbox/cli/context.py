"""Which outbox a command works on: named by URL, or the application's own. Opened on first use, closed at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from outbox.channels import configuration
from outbox.channels.base import Channel
from outbox.cli import loading
from outbox.cli.environment import variables
from outbox.errors import ConfigurationError, DatabaseUnavailable
from outbox.outbox import Outbox
from outbox.store.schema import DEFAULT_TABLE


@dataclass
class Access:
    """What the global options say. ``typed`` are those given on the command line and not by a variable."""

    database: str | None
    table: str
    channels_file: Path | None
    app_names: Sequence[str]
    variables: Mapping[str, str]
    typed: frozenset[str] = frozenset()
    _opened: list[Outbox] = field(default_factory=list)

    @classmethod
    def over(cls, outbox: Outbox, celery: Any) -> "Access":
        """The application's own, which need no finding."""
        access = cls(None, DEFAULT_TABLE, None, (), variables())
        access.applications = loading.Applications(outbox, None, celery)
        return access

    @cached_property
    def applications(self) -> loading.Applications:
        """What ``--app`` names. Raises :class:`~outbox.errors.ConfigurationError`."""
        loaded = loading.load(self.app_names)
        if loaded.outbox is not None and self.typed:
            options = " and ".join(f"--{name}" for name in sorted(self.typed))
            raise click.UsageError(f"the application's Outbox brings its own settings: leave out {options}, or --app")
        return loaded

    def open(self, *, with_channels: bool = False, may_create: bool = False) -> Outbox:
        """The outbox; ``with_channels`` with those of ``--channels``, where that is given.

        Raises :class:`~outbox.errors.ConfigurationError` where no database is named, and
        :class:`~outbox.errors.DatabaseUnavailable` for a SQLite file that is not there, unless the command ``may_create`` it.
        """
        outbox = self.applications.outbox or self._build(self.channels() if with_channels else ())
        self._opened.append(outbox)
        if not may_create:
            require_file(outbox)
        return outbox

    def channels(self) -> Sequence[Channel]:
        """The channels of ``--channels``; none without it. Raises :class:`~outbox.errors.ConfigurationError`."""
        return () if self.channels_file is None else configuration.load(self.channels_file, self.variables)

    def celery(self, broker_url: str | None) -> Any:
        """The Celery application: one for that broker, else that of ``--app``, else one for ``OUTBOX_BROKER_URL``, or ``None``.

        Raises :class:`~outbox.errors.ConfigurationError` for a URL that means nothing, or where Celery is not installed.
        """
        own = self.applications.celery
        url = broker_url or (self.variables.get("OUTBOX_BROKER_URL") if own is None else None)
        if url is None:
            return own
        from outbox.integrations.celery.connecting import app_for

        return app_for(url)

    def close(self) -> None:
        """Give back connections, the application's own too: nobody else will, in this process."""
        for outbox in self._opened:
            outbox.close()
            for engine in (outbox.application_engine, self.applications.engine):
                if engine is not None:
                    engine.dispose()

    def _build(self, channels: Sequence[Channel]) -> Outbox:
        engine = self.applications.engine
        if self.database is None and engine is None:
            raise ConfigurationError(
                "no database is named: pass --database sqlite:///app.db, set OUTBOX_DATABASE_URL, or pass --app module:outbox"
            )
        if self.database is not None:
            return Outbox(self.database, channels=channels, table_name=self.table)
        return Outbox(engine=engine, channels=channels, table_name=self.table)


def require_file(outbox: Outbox) -> None:
    """Refuse a SQLite file that is not there: of a path that was misspelt SQLite would make an empty database.

    Raises :class:`~outbox.errors.DatabaseUnavailable`.
    """
    url = outbox.store.engine.url
    path = url.database
    if url.get_backend_name() != "sqlite" or not path or path == ":memory:" or path.startswith("file:"):
        return
    if not Path(path).exists():
        raise DatabaseUnavailable(f"there is no database {path}: check the path, or create it with `outbox db upgrade`")


pass_access = click.make_pass_decorator(Access)
