"""The messages: whether each has something that will look at it again, and whether somebody does."""

from collections.abc import Iterator

from outbox.cli import printing
from outbox.cli.doctor.findings import Check, Finding
from outbox.errors import did_you_mean
from outbox.lifecycle import Status
from outbox.outbox import Outbox
from outbox.store.records import GateKind

MOST_VIOLATIONS = 20


def checks(outbox: Outbox, longest_wait_s: float) -> list[Check]:
    """The checks of the messages."""
    return [
        Check("liveness", lambda: _liveness(outbox)),
        Check("waiting", lambda: _waiting(outbox, longest_wait_s)),
        Check("parked", lambda: _parked(outbox)),
        Check("closed channels", lambda: _closed(outbox)),
    ]


def unregistered_channels(outbox: Outbox) -> Iterator[Finding]:
    """Channels that messages wait for and nobody delivers; none where the channels are not known here."""
    if not len(outbox.channels):
        return
    known = [channel.name for channel in outbox.channels]
    for name, count in sorted(outbox.store.channels_in_use().items()):
        if name not in outbox.channels:
            yield Finding(
                f"{count} active messages are for the channel {name!r}, which is not registered{did_you_mean(name, known)}",
                f"register it, or `outbox cancel --channel {name}`",
            )


def _liveness(outbox: Outbox) -> Iterator[Finding]:
    for row in outbox.store.violations(MOST_VIOLATIONS):
        yield Finding(
            f"{row.id} ({row.status}): {row.problem}",
            "nothing of ours writes such a row: mend it by hand, and keep others from writing the table",
        )


def _waiting(outbox: Outbox, longest_wait_s: float) -> Iterator[Finding]:
    paused = {gate.channel for gate in outbox.store.gates() if not gate.target}
    for stats in outbox.stats():
        age_ms = stats.oldest_due_age_ms
        if age_ms is not None and age_ms > longest_wait_s * 1000 and stats.channel not in paused:
            yield Finding(
                f"a message of channel {stats.channel!r} could have been sent {printing.span(age_ms)} ago",
                f"see that a relay runs, that workers serve the queue outbox.{stats.channel}, and that they keep up",
            )


def _parked(outbox: Outbox) -> Iterator[Finding]:
    for stats in outbox.stats():
        if count := stats.by_status.get(Status.PARKED, 0):
            yield Finding(
                f"{count} messages of channel {stats.channel!r} are parked and wait for a decision",
                f"`outbox list --status parked --channel {stats.channel}`, then"
                f" `outbox resolve` with their ids or `--channel {stats.channel}`",
            )


def _closed(outbox: Outbox) -> Iterator[Finding]:
    for gate in outbox.store.gates():
        if gate.kind is not GateKind.PAUSE and not gate.target:
            yield Finding(
                f"channel {gate.channel!r} closed itself ({gate.kind}): {gate.reason}",
                "mend what it says; the channel opens by itself, or at once with `outbox resume`",
            )
