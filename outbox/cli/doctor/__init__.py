"""``outbox doctor``: looks at the whole installation and says how to mend what it finds."""

import click

from outbox.cli import printing
from outbox.cli.context import Access, pass_access
from outbox.cli.doctor import backlog, databases, sending
from outbox.cli.doctor.findings import Check, Finding, examine
from outbox.cli.parameters import broker_option, json_option, positive_duration
from outbox.errors import ConfigurationError
from outbox.outbox import Outbox


@click.command(epilog="Example: outbox --app shop.messages:outbox --channels channels.toml doctor --broker redis://localhost")
@broker_option
@click.option(
    "--waiting-longer-than", "longest_wait_s", type=positive_duration, metavar="DURATION", default="10m", show_default=True,
    help="Report a channel whose oldest due message waits longer.",
)  # fmt: skip
@json_option
@click.pass_context
@pass_access
def doctor(access: Access, context: click.Context, broker: str | None, longest_wait_s: float, as_json: bool) -> None:
    """Examine the database, the backlog, the channels and the broker; exit status 1 if anything is wrong.

    With --app the application's own engine is examined too, and with --channels or --app whether every message has a
    channel. The broker is examined where one is configured.
    """
    outbox = access.open()
    results = _examined(databases.checks(outbox, access.applications.engine))
    if not results[0][1]:  # without a current schema nothing else can be read
        channels = Check("channels", lambda: _channels(access, outbox))
        results += _examined([channels, *backlog.checks(outbox, longest_wait_s), *sending.checks(access, outbox, broker)])
    findings = [(check, finding) for check, found in results for finding in found]
    if as_json:
        facts = [{"check": check.name, "problem": finding.problem, "mend": finding.mend} for check, finding in findings]
        printing.print_json({"checked": [check.name for check, _ in results], "findings": facts})
    else:
        _print(results)
    context.exit(1 if findings else 0)


def _examined(checks: list[Check]) -> list[tuple[Check, list[Finding]]]:
    results = []
    for check in checks:
        results.append((check, examine(check)))
        if check.is_vital and results[-1][1]:
            break
    return results


def _channels(access: Access, outbox: Outbox) -> list[Finding]:
    """Register what ``--channels`` configures, so that the checks behind this one know it."""
    if access.applications.outbox is None:
        try:
            for channel in access.channels():
                outbox.register(channel)
        except ConfigurationError as error:
            return [Finding(str(error), "mend the file: relay and workers do not start with it")]
    return list(backlog.unregistered_channels(outbox))


def _print(results: list[tuple[Check, list[Finding]]]) -> None:
    for check, found in results:
        if not found:
            printing.line(f"ok     {check.name}")
        for finding in found:
            printing.line(f"wrong  {check.name}: {finding.problem}")
            if finding.mend:
                printing.line(f"       -> {finding.mend}")
