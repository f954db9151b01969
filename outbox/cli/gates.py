"""``outbox pause`` and ``outbox resume``: channels and targets that take nothing for a while."""

import click

from outbox.cli import printing
from outbox.cli.context import Access, pass_access
from outbox.cli.parameters import json_option, on_record, positive_duration
from outbox.errors import did_you_mean
from outbox.facts import iso
from outbox.outbox import Outbox


@click.command(epilog="Example: outbox pause webhook --for 10m --reason 'their maintenance window'")
@click.argument("channel")
@click.option("--target", default="", help="Pause only this target.")
@click.option("--for", "for_s", type=positive_duration, metavar="DURATION", help="Open again by itself after that time.")
@on_record
@json_option
@pass_access
def pause(
    access: Access, channel: str, target: str, for_s: float | None, actor: str, reason: str | None, as_json: bool
) -> None:
    """Stop sending through CHANNEL, or to one of its targets. Messages wait, uncharged; those with a TTL may expire."""
    outbox = access.open()
    _warn_of_misspelling(outbox, channel)
    outbox.pause(channel, target=target, for_s=for_s, reason=reason or "", actor=actor)
    until = None if for_s is None else outbox.store.now_ms() + round(for_s * 1000)
    if as_json:
        printing.print_json({"channel": channel, "target": target, "closed_until": iso(until)})
    else:
        ending = f"until {iso(until)}" if until else f"until `outbox resume {channel}{_option(target)}`"
        printing.line(f"paused {channel}{_to(target)} {ending}")


@click.command(epilog="Example: outbox resume webhook --target https://example.com/hook --reason 'they answer again'")
@click.argument("channel")
@click.option("--target", help="Open only this target.")
@click.option("--all-targets", is_flag=True, help="Open every closed target of the channel as well.")
@on_record
@json_option
@click.pass_context
@pass_access
def resume(
    access: Access, context: click.Context, *, channel: str, target: str | None, all_targets: bool, actor: str,
    reason: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Open CHANNEL, or one of its targets, again, whoever closed it; exit status 1 if nothing was closed."""
    if target is not None and all_targets:
        raise click.UsageError("--target and --all-targets exclude each other")
    outbox = access.open()
    opened = outbox.resume(channel, target=None if all_targets else target or "", reason=reason, actor=actor)
    still_closed = [gate.target for gate in outbox.store.gates() if gate.channel == channel]
    if as_json:
        printing.print_json({"channel": channel, "opened": opened, "still_closed": still_closed})
    elif opened:
        printing.line(f"resumed {channel}{_to(target or '')}")
    else:
        printing.line(f"{channel}{_to(target or '')} was not closed")
    if still_closed:
        printing.note(f"still closed: {', '.join(one or 'the channel itself' for one in still_closed)}")
    context.exit(0 if opened else 1)


def _warn_of_misspelling(outbox: Outbox, channel: str) -> None:
    """A pause may come before the first message, so an unknown name is no error."""
    known = {one.name for one in outbox.channels} | set(outbox.store.channels_in_use())
    if channel not in known:
        printing.note(f"note: no message waits for a channel {channel!r}{did_you_mean(channel, known)}")


def _to(target: str) -> str:
    return f" to {target}" if target else ""


def _option(target: str) -> str:
    return f" --target {target}" if target else ""
