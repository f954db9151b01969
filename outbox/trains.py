"""Jobs that were taken together, lined up by ordering key: of one key, each is sent once the one before it was delivered."""

from collections.abc import Sequence

from outbox.message import Claim
from outbox.sending import Job, Train


def couple(window: Sequence[Claim], jobs: Sequence[Job]) -> list[Train]:
    """Line up the jobs of each key in the order of their claims; those without a key are trains of one.

    A reply's own ``reply_to`` is used up by the first part that carries it: a job begins only after those before it were
    delivered, so the parts behind answer nobody.
    """
    by_id = {job.message.id: job for job in jobs}
    trains: dict[str, Train] = {}
    for claim in window:
        if (job := by_id.pop(claim.id, None)) is not None:  # a claim may have come twice
            job.train = trains.setdefault(claim.ordering_key or claim.id, [])
            job.train.append(job)
    for train in trains.values():
        if len(train) > 1:
            _answer_once(train)
    return list(trains.values())


def _answer_once(train: Train) -> None:
    answered: set[str | None] = set()
    for job in train:
        if job.message.inherits_reply_to:
            if job.message.turn_id in answered:
                job.message = job.message.without_reply_to()
            answered.add(job.message.turn_id)
