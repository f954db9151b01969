"""What an extra brings: whoever uses it without is told which one it is, wherever the import stands."""

from collections.abc import Iterator
from contextlib import contextmanager

from outbox.errors import MissingExtra


@contextmanager
def extra(name: str, user: str) -> Iterator[None]:
    """Import within the block what that extra brings. ``user`` is what needs it, for the error's text.

    Raises :class:`~outbox.errors.MissingExtra`. Of blocks within each other, the innermost knows best.
    """
    try:
        yield
    except MissingExtra:
        raise
    except ModuleNotFoundError as error:
        raise MissingExtra(f"{user} needs {error.name}: pip install 'celery-outbox[{name}]'", name=error.name) from error
