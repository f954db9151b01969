"""Every metric there is: what it is called, what it means, and what it is told apart by.

Labels name channels, statuses, outcomes and the like, of which there are few. None names a message, a target or an error.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Prometheus's types of metrics, as far as they are used here."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. ``buckets`` are the upper bounds of a histogram, in seconds."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


ENQUEUED = Family(
    "outbox_enqueued_total", Kind.COUNTER,
    "Messages written by this process, in transactions that may have been rolled back since", ("channel",),
)  # fmt: skip
NUDGES = Family(
    "outbox_nudges_total", Kind.COUNTER, "Wake-ups after commits: published, or failed and left to the relay's next tick",
    ("result",),
)  # fmt: skip
RELAY_PASSES = Family(
    "outbox_relay_passes_total", Kind.COUNTER, "Passes of the relay that came to their end, whether or not they found anything"
)
PULLS = Family(
    "outbox_pulls_total", Kind.COUNTER,
    "Claims by delivery tasks: one hop after a commit of an idle channel, or at the end of a batch of a full one", ("channel",),
)  # fmt: skip
CLAIMED = Family("outbox_claimed_total", Kind.COUNTER, "Messages claimed for delivery tasks")
REDISPATCHED = Family(
    "outbox_redispatched_total", Kind.COUNTER, "Messages handed to the broker once more, because nobody took them in time"
)
TASKS = Family("outbox_delivery_tasks_total", Kind.COUNTER, "Delivery tasks that got messages to carry, several each")
BROKER_FAILURES = Family(
    "outbox_broker_failures_total", Kind.COUNTER, "Times the relay could not publish; the messages stay due and are not charged"
)
TAKE_REFUSED = Family(
    "outbox_take_refused_total", Kind.COUNTER,
    "Copies of messages turned away before anything was sent: broker duplicates, stale, expired or out of turn", ("channel",),
)  # fmt: skip
ATTEMPTS = Family("outbox_attempts_total", Kind.COUNTER, "Attempts on record, by what came of them", ("channel", "outcome"))
RELEASED = Family(
    "outbox_released_total", Kind.COUNTER, "Messages taken and given back before their send began; no attempt is charged",
    ("channel",),
)  # fmt: skip
ATTEMPT_DURATION = Family(
    "outbox_attempt_duration_seconds", Kind.HISTOGRAM, "From the take of a message to the end of its send", ("channel",),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)  # fmt: skip
DUE_TO_SENT = Family(
    "outbox_due_to_sent_seconds", Kind.HISTOGRAM, "From the moment at which a message was due to its delivery", ("channel",),
    (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0),
)  # fmt: skip
LEASE_LOST = Family(
    "outbox_lease_lost_total", Kind.COUNTER, "Outcomes not recorded, because somebody else held the message by then",
    ("channel", "outcome"),
)  # fmt: skip
SETTLE_DELAYED = Family(
    "outbox_settle_delayed_total", Kind.COUNTER,
    "Outcomes that the database would not record at once; each is kept and recorded later", ("channel",),
)  # fmt: skip
MAINTAINED = Family("outbox_maintained_total", Kind.COUNTER, "Rows changed by maintenance", ("service",))

DATABASE_UP = Family(
    "outbox_database_up", Kind.GAUGE, "Whether the database answered this scrape; where not, the gauges below are missing"
)
MESSAGES = Family("outbox_messages", Kind.GAUGE, "Messages in the table; the count stops at 100,000", ("channel", "status"))
OLDEST_DUE = Family(
    "outbox_oldest_due_seconds",
    Kind.GAUGE,
    "How long the oldest message that a relay could claim has been due",
    ("channel",),
)
IN_FLIGHT_LIMIT = Family(
    "outbox_in_flight_limit", Kind.GAUGE, "Messages that may be dispatched or being sent at once", ("channel",)
)
GATES_CLOSED = Family(
    "outbox_gates_closed", Kind.GAUGE, "What is closed now, whole channels or single targets of theirs, and why",
    ("channel", "kind", "scope"),
)  # fmt: skip

COUNTED = (
    ENQUEUED, NUDGES, RELAY_PASSES, PULLS, CLAIMED, REDISPATCHED, TASKS, BROKER_FAILURES, TAKE_REFUSED, ATTEMPTS, RELEASED,
    ATTEMPT_DURATION, DUE_TO_SENT, LEASE_LOST, SETTLE_DELAYED, MAINTAINED,
)  # fmt: skip
"""What each process counts of what it does."""

ASKED = (DATABASE_UP, MESSAGES, OLDEST_DUE, IN_FLIGHT_LIMIT, GATES_CLOSED)
"""What is asked of the database at a scrape."""
