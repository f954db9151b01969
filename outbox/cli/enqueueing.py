"""``outbox enqueue``: a message in a transaction of its own, for trials and for scripts."""

import json
from typing import Any, BinaryIO

import click

from outbox.cli import printing
from outbox.cli.context import Access, pass_access
from outbox.cli.parameters import duration, json_option, positive_duration
from outbox.message import DispatchKind

LARGEST_FILE = 16 * 1024 * 1024
"""Bytes; white space makes a file larger than what is stored, but not by this much."""

_EPILOG = """\b
Examples:
  outbox enqueue console --payload '{"text": "hello"}'
  outbox enqueue webhook --target https://example.com/hook --payload-file order.json --key order-17
  date | jq -R | outbox enqueue console --payload-file - --delay 10m"""


@click.command(epilog=_EPILOG)
@click.argument("channel")
@click.option("--target", default="", help="Where the channel sends it: a URL, a chat id, an address.")
@click.option("--payload", metavar="JSON", help="The payload.")
@click.option(
    "--payload-file", metavar="FILE", type=click.File("rb"), help="Read the payload, as JSON, from FILE; - is standard input."
)
@click.option("--header", "headers", metavar="NAME=VALUE", multiple=True, help="A header for the adapter; may be repeated.")
@click.option("--key", "idempotency_key", metavar="TEXT", help="Idempotency key: a second message with it is not created.")
@click.option("--ordering-key", metavar="TEXT", help="Messages of one key are sent in order, one at a time.")
@click.option("--priority", type=int, default=0, show_default=True, help="From -100 to 100; higher goes first.")
@click.option("--delay", type=duration, help="Send it that much later: 90 (seconds), 10m, 48h.")
@click.option(
    "--expires-in", type=positive_duration, metavar="DURATION", help="Not worth sending that long after it became due."
)
@click.option("--max-attempts", type=int, help="Attempts before it becomes a dead letter.")
@click.option("--account", "account_id", metavar="ID", default="", help="The sending account, where a channel has several.")
@click.option("--turn", "turn_id", metavar="ID", help="The turn that the message belongs to.")
@click.option(
    "--kind", "dispatch_kind", type=click.Choice([str(kind) for kind in DispatchKind]), default=str(DispatchKind.FINAL),
    show_default=True, help="Only final messages are sent again after a failure.",
)  # fmt: skip
@json_option
@pass_access
def enqueue(
    access: Access, /, channel: str, payload: str | None, payload_file: BinaryIO | None, headers: tuple[str, ...],
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Enqueue a message for CHANNEL and print its id.

    With --channels or --app the message is checked against the channel; otherwise the name is taken on trust.
    """
    value = _payload(payload, payload_file)
    outbox = access.open(with_channels=True)
    with outbox.store.connection_for_schema() as transaction:
        queued = outbox.enqueue(transaction, channel, payload=value, headers=_headers(headers), **options)
    if as_json:
        printing.print_json({"id": queued.id, "created": queued.created})
    else:
        printing.line(queued.id)
        printing.note("created" if queued.created else "not created: this is the message that has that idempotency key")


def _payload(text: str | None, file: BinaryIO | None) -> Any:
    if text is not None and file is not None:
        raise click.UsageError("--payload and --payload-file exclude each other")
    if file is not None:
        content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise click.UsageError(f"the payload file is larger than {LARGEST_FILE // 1024 // 1024} MiB")
        return _parsed(content, "--payload-file")
    return None if text is None else _parsed(text, "--payload")


def _parsed(text: str | bytes, option: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise click.UsageError(f"{option} is nested too deeply") from None
    except ValueError as error:
        raise click.UsageError(f"{option} is not JSON ({error}); a text is written with its quotes: '\"hello\"'") from None


def _headers(pairs: tuple[str, ...]) -> dict[str, str] | None:
    headers: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not (name and separator):
            raise click.UsageError(f"--header {pair} is not of the form NAME=VALUE")
        headers[name] = value
    return headers or None
