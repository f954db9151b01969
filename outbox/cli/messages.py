"""``outbox list`` and ``outbox show``: messages, without what they say unless that is asked for."""

import json
from typing import Any

import click

from outbox.cli import printing
from outbox.cli.context import Access, pass_access
from outbox.cli.parameters import json_option
from outbox.facts import message_facts, record_facts, times_of
from outbox.lifecycle import Status
from outbox.message import Message

_JSON = frozenset({"payload", "headers", "receipt"})


@click.command("list", epilog="Example: outbox list --channel webhook --status failed_terminal --limit 10")
@click.option("--status", type=click.Choice([str(status) for status in Status]), help="Only messages in that status.")
@click.option("--channel", metavar="NAME", help="Only messages of that channel.")
@click.option("--turn", "turn_id", metavar="ID", help="Only messages of that turn.")
@click.option("--target", help="Only messages to that target.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Messages to show at the most.")
@click.option("--before", "before_seq", metavar="SEQ", type=click.IntRange(1), help="Go on behind the message with that seq.")
@json_option
@pass_access
def list_(access: Access, /, limit: int, as_json: bool, **wanted: Any) -> None:
    """List messages, newest first. A seq counts messages in the order in which they were enqueued."""
    outbox = access.open()
    found = outbox.list(limit=limit, **wanted)
    if as_json:
        printing.print_json([message_facts(message) for message in found])
        return
    now_ms = outbox.store.now_ms()
    printing.print_table(
        ["seq", "id", "channel", "target", "status", "attempts", "due or done", "last error"],
        ([message.seq, message.id, message.channel, message.target, message.status, message.attempt_count,
          printing.when(message.completed_at or message.next_attempt_at, now_ms), message.last_error] for message in found),
        whole=["seq", "id"],
    )  # fmt: skip
    if len(found) == limit:
        printing.note(f"there may be more: --before {found[-1].seq}")


@click.command(epilog="Example: outbox show 0198c0de-0000-7000-8000-000000000001 --payload")
@click.argument("message_id", metavar="ID")
@click.option("--payload", is_flag=True, help="Show the payload and the headers too.")
@json_option
@pass_access
def show(access: Access, message_id: str, payload: bool, as_json: bool) -> None:
    """Show one message: the row, its recorded attempts, and what operators did to it."""
    outbox = access.open()
    message = outbox.get(message_id)
    attempts, operations = outbox.attempts(message_id), outbox.store.operations(message_id)
    facts = message_facts(message, content=payload)
    if as_json:
        records = {"attempts": [*map(record_facts, attempts)], "operations": [*map(record_facts, operations)]}
        printing.print_json(facts | records)
        return
    now_ms = outbox.store.now_ms()
    printing.print_facts({name: _for_people(name, value) for name, value in (facts | _moments(message, now_ms)).items()})
    if attempts:
        printing.heading("attempts on record")
        printing.print_table(
            ["number", "lease", "outcome", "class", "started", "took", "error", "by"],
            ([one.number, one.lease, one.outcome, one.error_class, printing.when(one.started_at, now_ms),
              f"{one.finished_at - one.started_at} ms", one.error, one.owner] for one in attempts),
        )  # fmt: skip
    if operations:
        printing.heading("operations")
        printing.print_table(
            ["action", "from", "at", "by", "reason"],
            ([one.action, one.from_status, printing.when(one.at, now_ms), one.actor, one.reason] for one in operations),
        )


def _moments(message: Message, now_ms: int) -> dict[str, str | None]:
    return {name: printing.when(moment_ms, now_ms) for name, moment_ms in times_of(message).items()}


def _for_people(name: str, value: object) -> object:
    if name in _JSON:
        return None if value is None else json.dumps(value, ensure_ascii=False)
    return value if value != "" else None
