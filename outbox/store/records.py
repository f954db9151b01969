"""What goes into and comes out of the store's verbs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from outbox.lifecycle import Status
from outbox.message import Claim
from outbox.policy.retry import Verdict


class NewRow(NamedTuple):
    """A message ready to be inserted. Times are durations in milliseconds from now, so that the database's clock decides.

    ``due_at`` (epoch milliseconds) overrides ``delay_ms``. ``stamped`` is false where the channel's defaults are unknown here.

    A tuple, because a request waits while it is made: a frozen dataclass of so many fields takes five times as long.
    """

    id: str
    channel: str
    account_id: str
    target: str
    turn_id: str | None
    dispatch_kind: str | None
    payload: str | None
    headers: str | None
    ordering_key: str | None
    priority: int
    idempotency_key: str | None
    max_attempts: int | None
    delay_ms: int
    due_at: int | None
    ttl_ms: int | None
    stamped: bool


@dataclass(frozen=True, slots=True)
class Stamp:
    """The channel's defaults for a row whose application does not know it; ``ttl_ms`` counts from the first due time."""

    id: str
    max_attempts: int
    ttl_ms: int | None
    ordering_key: str | None


@dataclass(frozen=True, slots=True)
class Lane:
    """The due rows of one channel and priority, and when the oldest of them became due (epoch milliseconds)."""

    channel: str
    priority: int
    oldest_due_at: int
    in_flight: int = 0
    """How many rows of the channel, of whatever priority, are dispatched or being sent."""


class GateKind(StrEnum):
    """Who closed a channel or destination."""

    PAUSE = "pause"
    NOT_READY = "not ready"
    GONE = "gone"
    BREAKER = "breaker"


class GateState(StrEnum):
    """Whether a gate lets messages pass."""

    OPEN = "open"
    CLOSED = "closed"
    HALF_OPEN = "half open"
    """A breaker whose time is up: one message may go and show."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A closed channel (``target`` empty) or destination, until ``closed_until`` (epoch ms; ``None``: until resumed)."""

    channel: str
    target: str
    kind: GateKind
    closed_since: int
    closed_until: int | None
    reason: str | None
    actor: str | None = None
    failures: int = 0
    """Failures in a row, of a breaker that counts them."""
    state: GateState = GateState.CLOSED


@dataclass(frozen=True, slots=True)
class Pending:
    """What a relay pass finds to do."""

    lanes: Sequence[Lane] = ()
    unstamped: bool = False
    overdue: bool = False
    """Whether a dispatched row's horizon has passed."""
    gates: Sequence[Gate] = ()
    """Of all channels, those whose time has passed as well; not read where there is nothing to do."""

    def __bool__(self) -> bool:
        return bool(self.lanes) or self.unstamped or self.overdue

    def gates_of(self, channel: str) -> list[Gate]:
        """Those of one channel and its targets."""
        return [gate for gate in self.gates if gate.channel == channel]


@dataclass(frozen=True, slots=True)
class Claimed:
    """The result of a claim: the rows dispatched, and how many left the due index in all (dispatched, postponed or blocked).

    ``capped`` tells that the channel's allowance is used up, so that more may be due than could be claimed.
    """

    claims: Sequence[Claim]
    moved: int
    capped: bool = False


@dataclass(frozen=True, slots=True)
class Taker:
    """Who takes rows: for which channel, under which name, and for how many milliseconds at first."""

    channel: str
    owner: str
    run_lease_ms: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """One attempt's outcome on its way into the row that still holds ``lease``."""

    id: str
    lease: int
    verdict: Verdict
    outcome: str
    receipt: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settle did: ids recorded, and ids whose lease somebody else holds by now."""

    recorded: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()
    unblocked: bool = False
    """Whether rows behind one of them became due."""


@dataclass(frozen=True, slots=True)
class Completed:
    """Rows of one channel and terminal status are kept; the oldest was completed ``age_ms`` ago."""

    channel: str
    status: Status
    age_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """Which messages an operator means. Empty fields do not restrict."""

    ids: Sequence[str] = ()
    status: Status | None = None
    channel: str | None = None
    target: str | None = None
    turn_id: str | None = None
    before_seq: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it would match every message."""
        return not (self.ids or self.status or self.channel or self.target or self.turn_id)


@dataclass(frozen=True, slots=True)
class ChannelStats:
    """Counts of one channel."""

    channel: str
    by_status: Mapping[Status, int]
    oldest_due_age_ms: int | None


@dataclass(frozen=True, slots=True)
class Count:
    """How many messages of a channel are in a status; with ``at_least`` there are more."""

    channel: str
    status: Status
    rows: int
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Tally:
    """What ended as ``outcome`` in the step of time that begins at ``start_ms``, and how long that took after it was due."""

    start_ms: int
    channel: str
    outcome: Status
    messages: int
    latency_sum_ms: int
    latency_max_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A message in a list: what one line of it tells, without what it says. Times are epoch milliseconds."""

    seq: int
    id: str
    channel: str
    target: str
    status: Status
    attempt_count: int
    max_attempts: int | None
    queued_at: int
    next_attempt_at: int
    completed_at: int | None
    last_error: str | None
    terminal_reason: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a walk goes on: behind the row with this ``seq``, and in walks in order of time behind ``at`` (epoch ms)."""

    seq: int
    at: int = 0


Places = Mapping[tuple[str, int], Place]
"""Where walks through the waiting messages of each channel and priority go on."""


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list. ``next`` is where it goes on, if it does; a page that is not full has looked at as much as it may."""

    lines: Sequence[Line] = ()
    next: Place | None = None


@dataclass(frozen=True, slots=True)
class Violation:
    """A row that breaks an invariant: what ``outbox doctor`` reports."""

    id: str
    status: str
    problem: str


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """What an operator did to a message: when (epoch milliseconds), from which status, who and why."""

    action: str
    from_status: str | None
    at: int
    actor: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class GateOperation:
    """What an operator closed or opened: ``action`` is ``pause`` or ``resume``, ``at`` epoch milliseconds.

    Where it was one target and not the whole channel, the target stands in front of the reason.
    """

    channel: str
    action: str
    kind: GateKind
    at: int
    actor: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that an operator's action did not apply to, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class OperatorResult:
    """What an operator's action changed, and what it refused."""

    changed: Sequence[str] = ()
    refused: Sequence[Refusal] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How far messages of another queue had come. Times are epoch milliseconds."""

    status: Status
    queued_at: int
    attempt_count: int
    next_attempt_at: int
    expires_at: int | None
    last_attempt_at: int | None
    last_error: str | None
    error_class: str | None
    terminal_reason: str | None
    completed_at: int | None


@dataclass(frozen=True, slots=True)
class ImportedEntry:
    """An entry of another queue: its messages, with the history that they share, or none where it was sent already.

    ``source_id`` and ``digest`` (SHA-256 of the source) are what its receipt remembers.
    """

    source_id: str
    digest: str
    outcome: str
    messages: Sequence[NewRow] = ()
    history: History | None = None

    @property
    def message_id(self) -> str | None:
        """The first of its messages."""
        return self.messages[0].id if self.messages else None


@dataclass(frozen=True, slots=True)
class ImportReceipt:
    """That a source was imported, whatever became of its messages since."""

    digest: str
    outcome: str
    message_id: str | None
