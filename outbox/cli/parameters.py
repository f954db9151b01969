"""Options that several commands share, and how their values are read."""

import getpass
import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhdw])")
LONGEST_S = 10 * 366 * 86_400


def duration(text: str) -> float:
    """The seconds of a time span that is written ``90`` (seconds), ``10m``, ``1h30m``, ``48h`` or ``30d``."""
    seconds = _seconds(text.strip())
    if seconds is None:
        raise click.BadParameter(f"{text!r} is not a duration; write 90 (seconds), 10m, 1h30m, 48h or 30d")
    if seconds > LONGEST_S:
        raise click.BadParameter(f"{text!r} is more than ten years")
    return seconds


def positive_duration(text: str) -> float:
    """A :func:`duration` that is not 0."""
    seconds = duration(text)
    if not seconds:
        raise click.BadParameter("it must be longer than 0")
    return seconds


def _seconds(text: str) -> float | None:
    if re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", text):
        return float(text)
    if not re.fullmatch(rf"(?:{_PART.pattern})+", text):
        return None
    return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))


def operating_user() -> str:
    """The name of the user who runs the command, for the record of operations."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        return f"uid {os.getuid()}"


def broker_option(command: _Command) -> _Command:
    """``--broker``."""
    return click.option(
        "--broker", metavar="URL", help="Celery's broker, where the workers wait for tasks. [env: OUTBOX_BROKER_URL]"
    )(command)


def json_option(command: _Command) -> _Command:
    """``--json``, as the argument ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def on_record(command: _Command) -> _Command:
    """``--actor`` and ``--reason``: who does it, and why."""
    reason = click.option("--reason", metavar="TEXT", help="Why, for the record.")
    actor = click.option(
        "--actor", metavar="NAME", default=operating_user, show_default="the user of the operating system",
        help="Who does it, for the record.",
    )  # fmt: skip
    return actor(reason(command))
