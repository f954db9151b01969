"""What sends: the broker, where there is one, and the times that leases and limits are made of."""

from collections.abc import Iterator
from typing import Any

from outbox.cli.context import Access
from outbox.cli.doctor.findings import Check, Finding
from outbox.outbox import Outbox


def checks(access: Access, outbox: Outbox, broker_url: str | None) -> list[Check]:
    """The checks of channels' times and, where a broker is configured, of the broker."""
    made = [Check("timeouts", lambda: _timeouts(outbox)), Check("secrets", lambda: _secrets(outbox))]
    app = access.celery(broker_url)
    if app is not None:
        made.append(Check("broker", lambda: _broker(app)))
    if access.applications.celery is not None:
        made.append(Check("visibility timeout", lambda: _visibility(access.applications.celery, outbox)))
    return made


def _timeouts(outbox: Outbox) -> Iterator[Finding]:
    for channel in outbox.channels:
        if channel.ttl_ms is not None and channel.ttl_ms < channel.timeout * 1000:
            yield Finding(
                f"channel {channel.name!r} has a ttl of {channel.ttl:g} s and a timeout of {channel.timeout:g} s:"
                " a message expires while its first attempt is still allowed to run, and never gets a second",
                "raise ttl, or lower timeout",
            )


def _secrets(outbox: Outbox) -> Iterator[Finding]:
    for channel in outbox.channels:
        for weakness in channel.weak_secrets():
            yield Finding(weakness, 'give it one of `echo "whsec_$(openssl rand -base64 32)"`, and tell the receiver')


def _broker(app: Any) -> Iterator[Finding]:
    from outbox.integrations.celery.connecting import require_broker

    require_broker(app)
    yield from ()


def _visibility(app: Any, outbox: Outbox) -> Iterator[Finding]:
    from outbox.integrations.celery.connecting import longest_delivery_s, visibility_timeout_s

    visibility_s, longest_s = visibility_timeout_s(app), longest_delivery_s(app, outbox)
    if visibility_s is not None and visibility_s <= longest_s:
        yield Finding(
            f"the broker hands a task out again after {visibility_s:g} s, and a delivery may take {longest_s:g} s",
            f"broker_transport_options={{'visibility_timeout': {max(3600, round(longest_s * 2))}}}",
        )
