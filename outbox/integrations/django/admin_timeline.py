"""What the admin tells of one message: its moments, its attempts, and what operators did."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from django.utils import timezone
from django.utils.html import format_html, format_html_join

from outbox.integrations.django.configuration import read
from outbox.integrations.django.models import Attempt, Message, Operation

_NOTHING = "none"


def moment(epoch_ms: int | None) -> str:
    """Epoch milliseconds in the project's time zone; a number that is no date is left as it is."""
    if epoch_ms is None:
        return "-"
    try:
        told = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{epoch_ms} ms"
    return (timezone.localtime(told) if timezone.is_aware(timezone.now()) else told).isoformat(" ", "milliseconds")


def times(message: Message) -> str:
    """Each moment that has come, or is to come."""
    known = {
        "queued": message.queued_at,
        "due": message.next_attempt_at,
        "expires": message.expires_at,
        "last attempt": message.last_attempt_at,
        "lease until": message.lease_until,
        "delivered": message.delivered_at,
        "completed": message.completed_at,
        "content blanked": message.blanked_at,
    }
    return _table((), [(name, moment(value)) for name, value in known.items() if value is not None])


def attempts(message: Message) -> str:
    """The attempt log: failed and unknown ones, and successful ones where that is switched on."""
    found = Attempt.objects.using(read().database).filter(message_id=message.message_id).order_by("lease")
    return _table(
        ("number", "outcome", "class", "started", "took", "error", "by"),
        [
            (one.number, one.outcome, one.error_class or "", moment(one.started_at), f"{one.finished_at - one.started_at} ms",
             one.error or "", one.owner or "")
            for one in found
        ],
    )  # fmt: skip


def operations(message: Message) -> str:
    """Who did what, when and why."""
    found = Operation.objects.using(read().database).filter(message_id=message.message_id).order_by("seq")
    return _table(
        ("action", "from", "at", "by", "reason"),
        [(one.action, one.from_status or "", moment(one.at), one.actor or "", one.reason or "") for one in found],
    )


def _table(columns: Sequence[str], rows: Sequence[Iterable[object]]) -> str:
    """An HTML table; every cell is escaped."""
    if not rows:
        return _NOTHING
    head = format_html("<thead><tr>{}</tr></thead>", _cells("th", columns)) if columns else ""
    body = format_html_join("", "<tr>{}</tr>", ((_cells("td", row),) for row in rows))
    table: str = format_html("<table>{}<tbody>{}</tbody></table>", head, body)
    return table


def _cells(tag: str, cells: Iterable[object]) -> str:
    joined: str = format_html_join("", f"<{tag}>{{}}</{tag}>", ((cell,) for cell in cells))
    return joined
