"""From a send that ended to what is recorded and told of it."""

from dataclasses import replace

from outbox.keeping import Ended
from outbox.outcome import Delivered, Outcome
from outbox.policy import retry
from outbox.receipts import storable_receipt
from outbox.sending import NOT_BEGUN, Job
from outbox.store.records import Settlement
from outbox.telemetry import AttemptFinished


def judge(job: Job, outcome: Outcome | None) -> Ended:
    """The settlement of an ended job, by its channel's policy, and the event that tells of it."""
    message = replace(job.message, outcome_unknown=False) if job.found_unsent else job.message
    verdict = retry.released(message) if outcome is NOT_BEGUN else retry.decide(outcome, message, job.channel.retry_policy)
    if job.found_unsent and verdict.outcome_unknown is None:
        verdict = replace(verdict, outcome_unknown=False)
    receipt = storable_receipt(outcome.receipt) if isinstance(outcome, Delivered) else None
    name = retry.RELEASED if outcome is NOT_BEGUN else type(outcome).__name__.lower()
    event = AttemptFinished(
        message_id=message.id,
        channel=message.channel,
        attempt=message.attempt_count,
        lease=message.lease,
        outcome=name,
        status=verdict.status,
        duration_ms=job.duration_ms,
        waited_ms=max(0, (message.last_attempt_at or 0) - message.next_attempt_at),
        next_due_ms=verdict.delay_ms or None,
        error=verdict.error,
    )
    return Ended(Settlement(message.id, message.lease, verdict, name, receipt), event)
