"""``--app module:attribute``: an application's own objects, imported as its other tools would."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from inspect import isfunction
from operator import attrgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from outbox.errors import ConfigurationError, did_you_mean
from outbox.outbox import Outbox


@dataclass(frozen=True, slots=True)
class Applications:
    """What the named objects of an application are to the command."""

    outbox: Outbox | None = None
    engine: Engine | None = None
    celery: Any = None


def load(names: Sequence[str]) -> Applications:
    """Import each ``module:attribute``: an Outbox, a SQLAlchemy engine or a Celery application, or a function that makes one.

    Raises :class:`~outbox.errors.ConfigurationError` for what cannot be imported or is none of these.
    """
    if names and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    loaded = Applications()
    for name in names:
        found = _attribute(name)
        if isfunction(found):
            found = found()
        if isinstance(found, Outbox):
            loaded = replace(loaded, outbox=found)
        elif isinstance(found, Engine):
            loaded = replace(loaded, engine=found)
        elif _is_celery(found):
            loaded = replace(loaded, celery=found)
        else:
            raise ConfigurationError(
                f"--app {name} is a {type(found).__name__}; it must be an Outbox, a SQLAlchemy engine or a Celery application"
            )
    return loaded


def _attribute(name: str) -> Any:
    module_name, separator, attribute = name.partition(":")
    if not (module_name and separator and attribute):
        raise ConfigurationError(f"--app {name} is not of the form module:attribute, such as shop.messages:outbox")
    module = _module(name, module_name)
    try:
        return attrgetter(attribute)(module)
    except AttributeError:
        hint = did_you_mean(attribute, vars(module))
        raise ConfigurationError(f"--app {name}: the module {module_name} has no {attribute!r}{hint}") from None


def _module(name: str, module_name: str) -> Any:
    try:
        return import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and module_name.startswith(error.name):
            reason = "there is no such module here or in the Python path"
        else:
            reason = f"its import failed with {type(error).__name__}: {error}"
        raise ConfigurationError(f"--app {name}: {reason}") from error


def _is_celery(candidate: object) -> bool:
    """Whether it is a Celery application; whoever made one has imported Celery, and the others need not."""
    celery = sys.modules.get("celery")
    return celery is not None and isinstance(candidate, celery.Celery)
