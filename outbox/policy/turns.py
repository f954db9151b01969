"""What became of a turn: judged by its final messages; ``block`` and ``tool`` ones do not count."""

from collections.abc import Mapping
from enum import StrEnum

from outbox.lifecycle import ACTIVE, Status


class TurnStatus(StrEnum):
    """The state of a turn."""

    UNKNOWN = "unknown"
    """No final message of that turn is kept."""
    ACTIVE = "active"
    """Something is still to be sent; parked messages count."""
    DELIVERED = "delivered"
    """Nothing is active, at least one message was delivered and none failed."""
    FAILED = "failed"
    """Nothing is active, and a message failed or expired, or none was delivered."""


def turn_status(counts: Mapping[Status, int]) -> TurnStatus:
    """The state of a turn from the counts of its final messages by status."""
    present = {status for status, count in counts.items() if count}
    if not present:
        return TurnStatus.UNKNOWN
    if present & ACTIVE:
        return TurnStatus.ACTIVE
    if present & {Status.FAILED_TERMINAL, Status.EXPIRED} or Status.DELIVERED not in present:
        return TurnStatus.FAILED
    return TurnStatus.DELIVERED
