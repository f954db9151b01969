"""``outbox relay``: the relay and maintenance without beat."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

import click

from outbox.batching import Batch
from outbox.cli import printing
from outbox.cli.context import Access, pass_access
from outbox.cli.logs import LEVELS, log_to_stderr
from outbox.cli.looping import Job, run_until_stopped
from outbox.cli.parameters import broker_option, json_option, positive_duration
from outbox.cli.stopping import StopSignals
from outbox.errors import BrokerUnavailable, ConfigurationError
from outbox.outbox import Outbox
from outbox.relay import Relay, RelayReport
from outbox.telemetry import BrokerFailed, Event

ONCE_BUDGET_S = 300.0
MAINTAIN_EVERY_S = 5.0

_EPILOG = """\b
Examples:
  outbox --channels channels.toml relay --broker redis://localhost:6379/0
  outbox --app shop.messages:outbox --app shop.celery:app relay
  outbox --app shop.messages:outbox relay --inline --once"""


@click.command(epilog=_EPILOG)
@broker_option
@click.option("--inline", is_flag=True, help="Deliver in this process; no broker and no workers.")
@click.option("--once", is_flag=True, help="One pass: until nothing is due, at most five minutes.")
@click.option(
    "--interval", "every_s", type=positive_duration, metavar="DURATION", default="1s", show_default=True,
    help="Look for due messages that often.",
)  # fmt: skip
@click.option("--maintenance/--no-maintenance", default=True, show_default=True, help="Expire, rescue and prune as well.")
@click.option(
    "--log-level", type=click.Choice(LEVELS, case_sensitive=False), default="INFO", show_default=True,
    help="The least severe thing that is logged.",
)  # fmt: skip
@json_option
@pass_access
def relay(
    access: Access, *, broker: str | None, inline: bool, once: bool, every_s: float, maintenance: bool, log_level: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Claim due messages and hand them to Celery's workers, or deliver them here.

    Does what beat's two schedules do; any number may run at once. A failing pass is tried again, with growing pauses.
    SIGTERM and Ctrl-C end it when what is under way has ended: what was not begun is released, uncharged.
    """
    if inline and broker:
        raise click.UsageError("--inline needs no --broker: leave one of them out")
    if as_json and not once:
        raise click.UsageError("--json reports one pass: add --once")
    log_to_stderr(log_level)
    with StopSignals() as stop:
        outbox = access.open(with_channels=True)
        if not len(outbox.channels):
            raise ConfigurationError("no channels are known: pass --channels FILE, or --app with an Outbox that has some")
        statuses: Counter[str] = Counter()
        found = _inline(outbox, stop.requested, statuses) if inline else _through_celery(access, broker, outbox)
        outbox.check_schema()
        passes = _Passes(outbox, found, stop.requested, statuses, as_json)
        if once:
            passes.once(maintenance)
        else:
            printing.note(f"relaying for {', '.join(sorted(channel.name for channel in outbox.channels))}")
            run_until_stopped(list(passes.jobs(every_s, maintenance)), stop)


class _Passes:
    """The passes of one run of the command, and what they report."""

    def __init__(
        self, outbox: Outbox, relay: Relay, should_stop: Callable[[], bool], statuses: Counter[str], as_json: bool
    ) -> None:
        self._outbox = outbox
        self._relay = relay
        self._should_stop = should_stop
        self._statuses = statuses
        self._as_json = as_json

    def jobs(self, every_s: float, maintenance: bool) -> Sequence[Job]:
        """What the loop does, and how often."""
        relay = Job("the relay pass", every_s, partial(self._pass, budget_s=max(0.75, 0.75 * every_s)))
        return [relay, Job("maintenance", MAINTAIN_EVERY_S, self._maintain)] if maintenance else [relay]

    def once(self, maintenance: bool) -> None:
        """Everything that there is to do now. Raises :class:`~outbox.errors.BrokerUnavailable` where it cannot be published."""
        refused: list[str] = []
        self._outbox.telemetry.subscribe(lambda event: _note_failure(event, refused))
        if maintenance:
            self._maintain()
        self._report(self._pass(budget_s=ONCE_BUDGET_S))
        if refused:
            raise BrokerUnavailable(f"the broker did not take them, and they stay due: {refused[-1]}")

    def _pass(self, *, budget_s: float) -> RelayReport:
        return self._relay.run_once(budget_s=budget_s, should_stop=self._should_stop)

    def _maintain(self) -> None:
        self._outbox.maintenance.run_once(should_stop=self._should_stop)

    def _report(self, report: RelayReport) -> None:
        if self._as_json:
            printing.print_json({**asdict(report), "statuses": dict(self._statuses)})
            return
        ends = [f"{count} {status}" for status, count in sorted(self._statuses.items())]
        printing.line(", ".join([f"{report.claimed} claimed", f"{report.redispatched} published again", *ends]))


class _InlineDispatcher:
    """Delivers in this process, between two claims, and counts what became of the messages."""

    def __init__(self, outbox: Outbox, should_stop: Callable[[], bool], statuses: Counter[str]) -> None:
        self._outbox = outbox
        self._should_stop = should_stop
        self._statuses = statuses

    def dispatch(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            channel = self._outbox.channels.get(batch.channel)
            report = self._outbox.delivery.run(channel, batch, should_stop=self._should_stop)
            self._statuses.update(report.statuses)


def _inline(outbox: Outbox, should_stop: Callable[[], bool], statuses: Counter[str]) -> Relay:
    dispatcher = _InlineDispatcher(outbox, should_stop, statuses)
    return Relay(outbox.store, outbox.channels, dispatcher, outbox.telemetry, outbox.owner)


def _through_celery(access: Access, broker: str | None, outbox: Outbox) -> Relay:
    app = access.celery(broker)
    if app is None:
        raise click.UsageError("say who delivers: --broker URL, --app with a Celery application, or --inline")
    from outbox.integrations.celery.connecting import relay_over

    return relay_over(app, outbox)


def _note_failure(event: Event, refused: list[str]) -> None:
    if isinstance(event, BrokerFailed):
        refused.append(event.error)
