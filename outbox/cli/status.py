"""``outbox status``: counts, ages and gates at a glance."""

from collections.abc import Sequence

import click

from outbox.cli import printing
from outbox.cli.context import Access, pass_access
from outbox.cli.parameters import json_option
from outbox.facts import record_facts
from outbox.lifecycle import Status
from outbox.store.records import ChannelStats, Gate

GATE_COLUMNS = ("channel", "target", "kind", "since", "until", "reason", "by")


@click.command(epilog="Example: outbox status --json | jq '.channels[] | select(.counts.failed_terminal)'")
@click.option(
    "--history", metavar="N", type=click.IntRange(0, 1_000), default=0,
    help="Show the last N times that somebody paused or resumed something.",
)  # fmt: skip
@json_option
@pass_access
def status(access: Access, history: int, as_json: bool) -> None:
    """Count the messages by channel and status, and show what is closed.

    The oldest due age tells how long the message that waits longest could have been sent already.
    """
    outbox = access.open()
    stats, gates = outbox.stats(), outbox.store.gates()
    operations = outbox.store.gate_operations(history) if history else []
    if as_json:
        facts = {"channels": [*map(_channel_facts, stats)], "gates": [*map(record_facts, gates)]}
        printing.print_json(facts | ({"history": [*map(record_facts, operations)]} if history else {}))
        return
    now_ms = outbox.store.now_ms()
    _print(stats, gates, now_ms)
    if operations:
        printing.heading("paused and resumed")
        printing.print_table(
            ["at", "channel", "action", "kind", "by", "reason"],
            ([printing.when(one.at, now_ms), one.channel, one.action, one.kind, one.actor, one.reason] for one in operations),
        )


def _print(stats: Sequence[ChannelStats], gates: Sequence[Gate], now_ms: int) -> None:
    if not stats:
        printing.line("no messages")
    else:
        present = [one for one in Status if any(channel.by_status.get(one) for channel in stats)]
        printing.print_table(
            ["channel", *present, "oldest due"],
            ([channel.channel, *(channel.by_status.get(one, 0) for one in present), _age(channel)] for channel in stats),
            whole=["channel"],
        )
    if gates:
        printing.heading("closed")
        printing.print_table(GATE_COLUMNS, gate_rows(gates, now_ms))


def gate_rows(gates: Sequence[Gate], now_ms: int) -> Sequence[Sequence[object]]:
    """What is closed, a row of :data:`GATE_COLUMNS` for each."""
    return [
        [gate.channel, gate.target or "all of it", gate.kind, printing.when(gate.closed_since, now_ms),
         printing.when(gate.closed_until, now_ms) or "resumed", gate.reason, gate.actor]
        for gate in gates
    ]  # fmt: skip


def _age(channel: ChannelStats) -> str:
    return "" if channel.oldest_due_age_ms is None else f"{printing.span(channel.oldest_due_age_ms)} ago"


def _channel_facts(stats: ChannelStats) -> dict[str, object]:
    return {
        "channel": stats.channel,
        "counts": {str(one): stats.by_status.get(one, 0) for one in Status},
        "oldest_due_age_ms": stats.oldest_due_age_ms,
    }
