"""Which outbox is installed on a Celery application."""

from weakref import WeakKeyDictionary

from celery import Celery

from outbox.errors import ConfigurationError
from outbox.outbox import Outbox

_installed: WeakKeyDictionary[Celery, Outbox] = WeakKeyDictionary()


def remember(app: Celery, outbox: Outbox) -> None:
    """The names of the tasks leave room for one outbox. Raises :class:`~outbox.errors.ConfigurationError` for a second."""
    if app in _installed:
        raise ConfigurationError(f"an outbox is installed on this application already: {app!r}")
    _installed[app] = outbox


def outbox_of(app: Celery) -> Outbox:
    """The outbox of ``app``. Raises :class:`~outbox.errors.ConfigurationError` where ``install`` was not called."""
    try:
        return _installed[app]
    except KeyError:
        raise ConfigurationError(f"no outbox is installed on {app!r}: call install(app, outbox) where it is set up") from None
