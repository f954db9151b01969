"""What a check is, and what it finds."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from outbox.errors import OutboxError


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, and how to mend it."""

    problem: str
    mend: str


@dataclass(frozen=True, slots=True)
class Check:
    """One look at the installation. Where a vital one finds something, those behind it cannot be made."""

    name: str
    run: Callable[[], Iterable[Finding]]
    is_vital: bool = False


def examine(check: Check) -> list[Finding]:
    """What the check finds; an error on the way is a finding too."""
    try:
        return list(check.run())
    except OutboxError as error:
        return [Finding(str(error), "")]
    except SQLAlchemyError as error:
        return [Finding(str(getattr(error, "orig", None) or error), "")]
