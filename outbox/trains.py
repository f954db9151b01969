"""Jobs of one ordering key that were taken together: the first is being sent, the others wait for its success."""

from collections import deque
from collections.abc import Sequence

from outbox.message import Claim
from outbox.sending import Job


class Trains:
    """The trains of one delivery task. A job that has ended has left its train; jobs without a key are trains of one."""

    def __init__(self) -> None:
        self._train_of: dict[Job, deque[Job]] = {}
        self._answered: set[str | None] = set()

    def couple(self, window: Sequence[Claim], jobs: Sequence[Job]) -> list[Job]:
        """Line up the jobs of each key in the order of their claims; returns those that begin now."""
        by_id = {job.message.id: job for job in jobs}
        trains: dict[str, deque[Job]] = {}
        for claim in window:
            if (job := by_id.pop(claim.id, None)) is not None:  # a claim may have come twice
                self._train_of[job] = train = trains.setdefault(claim.ordering_key or job.message.id, deque())
                train.append(job)
        return [train[0] for train in trains.values()]

    def is_waiting(self, job: Job) -> bool:
        """Whether one before it has not ended yet."""
        return self._train_of[job][0] is not job

    def delivered(self, job: Job) -> Job | None:
        """The job ended well: the one that begins next, if it was not the last.

        A reply's own ``reply_to`` is used up by the part that was delivered with it.
        """
        train = self._train_of.pop(job, None)
        if train is None:
            return None
        train.popleft()
        if job.message.inherits_reply_to:
            self._answered.add(job.message.turn_id)
        if not train:
            return None
        following = train[0]
        if following.message.inherits_reply_to and following.message.turn_id in self._answered:
            following.message = following.message.without_reply_to()
        return following

    def not_delivered(self, job: Job) -> list[Job]:
        """The job ended otherwise: those behind it, which must not begin, leave the train with it."""
        train = self._train_of.pop(job, None)
        if train is None:
            return []
        behind: list[Job] = []
        while (last := train.pop()) is not job:
            behind.insert(0, last)
            del self._train_of[last]
        return behind
