"""``outbox retry``, ``outbox cancel`` and ``outbox resolve``, on named messages or on all that match a filter."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol, TypeVar

import click
from rich.console import Console
from rich.progress import track

from outbox.cli import printing
from outbox.cli.context import Access, pass_access
from outbox.cli.parameters import json_option, on_record
from outbox.lifecycle import CANCELLABLE, REPLAYABLE, Event, Status, sources
from outbox.outbox import Outbox
from outbox.store.records import MessageFilter, OperatorResult, Refusal

_Command = TypeVar("_Command", bound=Callable[..., Any])

CHUNK = 500
"""Messages that one transaction changes: short enough that nobody waits for it."""
MOST = 1_000_000


class _Verb(Protocol):
    def __call__(self, ids: Sequence[str], /, *, actor: str | None, reason: str | None) -> OperatorResult: ...


def _selection(statuses: frozenset[Status], default: Status | None) -> Callable[[_Command], _Command]:
    """The arguments and options that say which messages are meant."""

    def decorate(command: _Command) -> _Command:
        status = click.option(
            "--status", type=click.Choice(sorted(map(str, statuses))),
            help=f"With that status.{f' Filters without it mean {default}.' if default else ''}",
        )  # fmt: skip
        channel = click.option("--channel", metavar="NAME", help="All of that channel.")
        turn = click.option("--turn", "turn_id", metavar="ID", help="All of that turn.")
        target = click.option("--target", help="All to that target.")
        dry_run = click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
        yes = click.option("--yes", is_flag=True, help="Do not ask before changing what a filter matches.")
        ids = click.argument("ids", metavar="[ID]...", nargs=-1)
        for option in reversed((ids, status, channel, turn, target, dry_run, yes, on_record, json_option)):
            command = option(command)
        return command

    return decorate


@click.command(
    epilog="\b\nExamples:\n  outbox retry 0198c0de-0000-7000-8000-000000000001 --reason 'address corrected'"
    "\n  outbox retry --channel webhook --dry-run\n  outbox retry --status expired --channel telegram --yes"
)
@_selection(REPLAYABLE, Status.FAILED_TERMINAL)
@pass_access
def retry(access: Access, /, **options: Any) -> None:
    """Make messages due again, from attempt 0 and with a fresh TTL.

    Name them by ID, or by filter: then dead letters are meant, unless --status says otherwise. Messages that are active
    anyway, being sent, not final or blanked are refused.
    """
    _operate(access, Event.REPLAY, lambda outbox: outbox.retry, "retry", "retried", default=Status.FAILED_TERMINAL, **options)


@click.command(
    epilog="\b\nExamples:\n  outbox cancel 0198c0de-0000-7000-8000-000000000001"
    "\n  outbox cancel --channel email --target someone@example.com --reason 'asked us to stop'"
)
@_selection(CANCELLABLE, None)
@pass_access
def cancel(access: Access, /, **options: Any) -> None:
    """Withdraw messages that are not being sent.

    Name them by ID, or by filter: all that match and have not ended.
    """
    _operate(access, Event.CANCEL, lambda outbox: outbox.cancel, "cancel", "cancelled", default=None, **options)


@click.command(
    epilog="\b\nExamples:\n  outbox resolve 0198c0de-0000-7000-8000-000000000001 --sent --reason 'it is in their log'"
    "\n  outbox resolve --channel webhook --target https://shop.example.com/hook --not-sent"
)
@click.option("--sent", "outcome", flag_value="sent", help="They were sent: record them as delivered.")
@click.option("--not-sent", "outcome", flag_value="not sent", help="They were not: send them.")
@_selection(sources(Event.RESOLVE_SENT), Status.PARKED)
@pass_access
def resolve(access: Access, /, *, outcome: str | None, **options: Any) -> None:
    """Say of parked messages whether they were sent; the outbox does not know.

    Name them by ID, or by filter: all that match and are parked.
    """
    if outcome is None:
        raise click.UsageError("say whether they were sent: --sent or --not-sent")
    sent, done = (True, "recorded as delivered") if outcome == "sent" else (False, "made due")
    _operate(
        access, Event.RESOLVE_SENT, lambda outbox: partial(outbox.resolve, sent=sent), "resolve", done,
        default=Status.PARKED, **options,
    )  # fmt: skip


def _operate(
    access: Access, event: Event, act: Callable[[Outbox], _Verb], verb: str, done: str, *,
    ids: tuple[str, ...], default: Status | None, dry_run: bool, yes: bool, actor: str, reason: str | None, as_json: bool,
    **filters: Any,
) -> None:  # fmt: skip
    wanted = _wanted(ids, filters, default)
    outbox = access.open()
    if dry_run:
        result, done = outbox.store.rehearse(event, wanted, MOST), f"would be {done}"
    else:
        # What was counted is what is changed, by id: messages that begin to match meanwhile are not meant.
        meant = wanted.ids or outbox.store.rehearse(event, wanted, MOST).changed
        if meant and not wanted.ids and not yes:
            _confirm(verb, len(meant))
        result = _act(act(outbox), meant, actor, reason)
    _report(result, done, as_json)
    click.get_current_context().exit(1 if result.refused else 0)


def _wanted(ids: Sequence[str], filters: dict[str, Any], default: Status | None) -> MessageFilter:
    named = {name: value for name, value in filters.items() if value is not None}
    if bool(ids) == bool(named):
        raise click.UsageError("name the messages either by ID or by --status, --channel, --turn and --target")
    status = named.pop("status", None)
    if ids:
        return MessageFilter(ids=list(dict.fromkeys(ids)))
    return MessageFilter(status=Status(status) if status else default, **named)


def _confirm(verb: str, count: int) -> None:
    try:
        click.confirm(f"{verb} {_messages(count)}?", abort=True, err=True)
    except click.Abort:
        raise click.ClickException("nothing was changed; pass --yes to do it without being asked") from None


def _act(act: _Verb, ids: Sequence[str], actor: str, reason: str | None) -> OperatorResult:
    changed: list[str] = []
    refused: list[Refusal] = []
    chunks = [ids[first : first + CHUNK] for first in range(0, len(ids), CHUNK)]
    for chunk in _tracked(chunks):
        result = act(chunk, actor=actor, reason=reason)
        changed += result.changed
        refused += result.refused
    return OperatorResult(changed, refused)


def _tracked(chunks: Sequence[Sequence[str]]) -> Iterator[Sequence[str]]:
    console = Console(stderr=True)
    few = len(chunks) < 2 or not console.is_terminal
    yield from track(chunks, description="", console=console, disable=few, transient=True)


def _report(result: OperatorResult, done: str, as_json: bool) -> None:
    if as_json:
        printing.print_json({"changed": list(result.changed), "refused": [asdict(one) for one in result.refused]})
        return
    printing.line(f"{_messages(len(result.changed))} {done}")
    for refusal in result.refused:
        printing.note(f"refused: {refusal.id}: {refusal.reason}")


def _messages(count: int) -> str:
    return f"{count:,} message{'' if count == 1 else 's'}"
