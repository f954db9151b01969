"""What the loops need of a store: verbs, each a short transaction of its own, and their contracts.

The same suite of contract tests runs against every implementation.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from outbox.lifecycle import Event, Status
from outbox.message import AttemptRecord, Claim, Message, Queued
from outbox.policy.destination import Breaker, Limits
from outbox.policy.retry import Verdict
from outbox.store.records import (
    ChannelStats,
    Claimed,
    Completed,
    Count,
    Gate,
    GateKind,
    GateOperation,
    ImportedEntry,
    ImportReceipt,
    Lane,
    Line,
    MessageFilter,
    NewRow,
    OperationRecord,
    OperatorResult,
    Page,
    Pending,
    Place,
    Places,
    Settled,
    Settlement,
    Stamp,
    Taker,
    Tally,
    Violation,
)


class Store(Protocol):
    """The outbox's table behind verbs. Every write after a claim is fenced by the row's lease."""

    def add(self, handle: Any, rows: Sequence[NewRow]) -> list[Queued]:
        """Insert rows into the transaction that ``handle`` holds (a SQLAlchemy connection, or a driver's in its clothes).

        Nothing is committed here. A row whose idempotency key stands already is not inserted; the answer names the row that
        stands.
        """

    def pending(self, channels: Sequence[str]) -> Pending:
        """What there is to do for these channels now, and the gates if there is anything; cheap when nothing is due."""

    def in_flight(self, channel: str) -> Mapping[int, int]:
        """How many of a channel's rows are dispatched or being sent, by their priority."""

    def stamp(self, channels: Sequence[str], defaults: Callable[[Message], Stamp], limit: int) -> int:
        """Give rows that were enqueued without knowledge of their channel its defaults; before that they are not claimed."""

    def claim(self, lane: Lane, limit: int, limits: Limits, owner: str | None = None) -> Claimed:
        """Move up to ``limit`` due rows of a lane to ``dispatched``, within what their channel and targets can take.

        ``owner`` is who publishes them, for :meth:`recall`.
        """

    def redispatch(self, channel: str, limit: int, owner: str | None = None) -> list[Claim]:
        """Rows whose dispatch horizon passed, for publishing again: status and lease unchanged, horizon renewed."""

    def recall(self, owner: str, within_ms: int, limit: int) -> int:
        """Give back what ``owner``, proven dead, claimed no longer ago than that and nobody has taken; returns how many."""

    def release(self, claims: Sequence[Claim]) -> int:
        """Give dispatched rows back, unstarted, uncharged, lease unchanged."""

    def take(self, claims: Sequence[Claim], taker: Taker) -> list[Message]:
        """Charge an attempt to each row that may start and return those; all others are a no-op."""

    def settle(self, settlements: Sequence[Settlement]) -> Settled:
        """Record outcomes of rows whose lease is unchanged. ``lost`` names the others, of which nothing was written."""

    def settle_and_take(
        self, settlements: Sequence[Settlement], claims: Sequence[Claim], taker: Taker
    ) -> tuple[Settled, list[Message]]:
        """Both in one transaction, in this order: the outcomes are recorded before anything new begins."""

    def work_and_settle(self, settlement: Settlement, work: Callable[[Any], str | None]) -> bool:
        """Run ``work(connection)`` and settle with the receipt text it returns, in one transaction.

        False when somebody else holds the row: the work is undone. What the work raises is raised, and undoes it too.
        """

    def already_settled(self, settlements: Sequence[Settlement]) -> frozenset[str]:
        """After an ambiguous commit: the ids that stand as their settlement wanted them."""

    def extend(self, held: Sequence[Message], *, run_lease_ms: int, longest_ms: int) -> set[str]:
        """Heartbeat; returns the ids still held."""

    def expire(self, limit: int) -> int:
        """End rows older than their TTL that are not being sent; returns how many."""

    def rescue(self, decide: Callable[[Message], Verdict | None], limit: int, *, owner: str | None = None) -> int:
        """Settle rows whose lease ran out or, with ``owner``, all that a process proven dead was sending."""

    def completed(self) -> list[Completed]:
        """Each channel and terminal status of which rows are kept, with the age of the oldest."""

    def prune(self, channel: str, status: Status, kept_ms: int, limit: int) -> int:
        """Delete a channel's rows of a terminal status completed longer ago than ``kept_ms``; returns how many."""

    def prunable(self, channel: str, status: Status, kept_ms: int) -> int:
        """How many rows :meth:`prune` would delete in all."""

    def blank(self, channel: str, status: Status, after_ms: int, since: int, limit: int) -> tuple[int, int]:
        """Empty the payload of rows completed since ``since``, more than ``after_ms`` ago; how many, and where to go on."""

    def tally(self, limit: int) -> int:
        """Add up to ``limit`` outcomes that are not counted yet to the tallies of their minutes; returns how many."""

    def tallies(self, since_ms: int, step_ms: int) -> list[Tally]:
        """What ended since then (epoch milliseconds), summed over steps of ``step_ms``, a multiple of a minute."""

    def forget_tallies(self) -> int:
        """Delete the tallies of more than a week ago; returns how many."""

    def mend(self, after: tuple[str, str], limit: int) -> tuple[int, tuple[str, str] | None]:
        """Clear blocked marks of rows that wait for nobody, key by key; returns how many and where to go on."""

    def unfuture(self, longest_retry_ms: int, longest_lease_ms: int, after: Places, limit: int) -> tuple[int, Places]:
        """Bring back due times and leases further ahead than the engine writes them (a clock that jumped back).

        Looks at up to ``limit`` waiting messages of each channel and priority after those places; returns how many it changed
        and where to go on.
        """

    def forget_buckets(self) -> int:
        """Delete the buckets of rates that have long been full again; returns how many."""

    def close(
        self, channel: str, target: str, kind: GateKind, *, for_ms: int | None, reason: str, actor: str | None = None
    ) -> None:
        """Close a channel (``target`` empty) or destination; a pause goes on record."""

    def close_growing(self, channel: str, kind: GateKind, *, at_least_ms: int, reason: str) -> None:
        """Close a channel that is not ready, longer each time in a row."""

    def reopen(
        self, channel: str, target: str | None, kind: GateKind | None = None, *, actor: str | None = None,
        reason: str | None = None,
    ) -> int:  # fmt: skip
        """Open it again, on record; returns how many gates there were."""

    def note_failures(self, channel: str, failures: Mapping[str, int], breaker: Breaker, *, reason: str) -> frozenset[str]:
        """Count failures in a row by target (the channel itself: the empty target); returns those whose breaker is open now."""

    def note_successes(self, channel: str, targets: Collection[str]) -> frozenset[str]:
        """Forget the failures of these targets; what waited for an open breaker is due at once. Returns those that had any."""

    def gates(self, *, closed_only: bool = True) -> list[Gate]:
        """The gates that are closed now, or all on record."""

    def replay(self, wanted: MessageFilter, limit: int, *, actor: str | None, reason: str | None) -> OperatorResult:
        """Make terminal and parked rows due again, from attempt 0, on record."""

    def cancel(self, wanted: MessageFilter, limit: int, *, actor: str | None, reason: str | None) -> OperatorResult:
        """Withdraw rows that are not being sent, on record."""

    def rehearse(self, event: Event, wanted: MessageFilter, limit: int) -> OperatorResult:
        """What :meth:`replay` (``Event.REPLAY``), :meth:`cancel` or :meth:`resolve` (``Event.RESOLVE_SENT``) would come to."""

    def resolve(
        self, wanted: MessageFilter, limit: int, *, sent: bool, actor: str | None, reason: str | None
    ) -> OperatorResult:
        """Record parked rows as delivered, or make them due again from attempt 0, on record."""

    def find(self, message_id: str) -> Message | None:
        """The message, or ``None``."""

    def list_messages(self, wanted: MessageFilter, limit: int) -> list[Message]:
        """Messages that match, newest first."""

    def page(self, wanted: MessageFilter, after: Place | None, limit: int) -> Page:
        """A page of a list of messages, at a price that does not grow with the table."""

    def find_named(self, name: str, channels: Sequence[str], limit: int) -> list[Line]:
        """Messages with that id, turn or idempotency key, and living ones with that ordering key."""

    def attempts(self, message_id: str) -> list[AttemptRecord]:
        """The recorded attempts of a message."""

    def operations(self, message_id: str) -> list[OperationRecord]:
        """What operators did to a message."""

    def gate_operations(self, limit: int) -> list[GateOperation]:
        """What operators paused and resumed, the latest first."""

    def stats(self) -> list[ChannelStats]:
        """Counts by channel and status."""

    def census(self, most: int) -> list[Count]:
        """Counts by channel and status, up to ``most``, at a price that does not grow with the table."""

    def turn(self, turn_id: str) -> dict[Status, int]:
        """Counts by status of a turn's final messages."""

    def violations(self, limit: int) -> list[Violation]:
        """Rows that break invariant 6: nothing will look at them again. Empty in a sound outbox."""

    def channels_in_use(self) -> dict[str, int]:
        """Counts of active messages by channel."""

    def now_ms(self) -> int:
        """The present moment by the clock that decides what is due: the database's or, on SQLite, the host's."""

    def receipts(self, source_ids: Sequence[str]) -> dict[str, ImportReceipt]:
        """The receipts of those sources of another queue that were imported, ever."""

    def import_entries(self, entries: Sequence[ImportedEntry]) -> frozenset[str]:
        """Write receipt and messages of each entry that has neither; returns the sources written."""

    def read_back(self, entries: Sequence[ImportedEntry]) -> frozenset[str]:
        """The sources that stand, receipt and messages, as these entries would have them; asked over a new connection."""

    def is_durable(self) -> bool:
        """Whether what is committed is on disk, and not in the memory of this process."""
