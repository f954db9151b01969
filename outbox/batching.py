"""Batches: claims on their way to a delivery task."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from outbox.channels.base import Channel
from outbox.message import Claim


@dataclass(frozen=True, slots=True)
class Batch:
    """The claims that travel in one broker message."""

    channel: str
    claims: Sequence[Claim]
    capped: bool = False
    """More may be due than could be claimed: when this is done, and has left the channel's allowance, look again."""
    watched: bool = False
    """A breaker of the channel counts failures: successes matter to it."""

    @property
    def is_suspect(self) -> bool:
        """Whether the last process that sent its message, which travels alone, died of it, or of something else meanwhile."""
        return any(claim.suspect for claim in self.claims)


def batches(channel: Channel, claims: Sequence[Claim], *, capped: bool = False, watched: bool = False) -> list[Batch]:
    """Claims as batches of at most ``batch_size``: rows of one ordering key together, unknown outcomes alone."""
    parts: list[list[Claim]] = [[]]
    for together in _groups(claims):
        if parts[-1] and (together[0].alone or parts[-1][0].alone or len(parts[-1]) + len(together) > channel.batch_size):
            parts.append([])
        parts[-1].extend(together)
    return [Batch(channel.name, part, capped, watched) for part in parts if part]


def _groups(claims: Sequence[Claim]) -> Iterator[list[Claim]]:
    """Claims that must not be torn apart: those of one ordering key, in their order; every other one by itself."""
    by_key: dict[str, list[Claim]] = {}
    groups: list[list[Claim]] = []
    for claim in claims:
        if claim.ordering_key is None:
            groups.append([claim])
        elif claim.ordering_key in by_key:
            by_key[claim.ordering_key].append(claim)
        else:
            by_key[claim.ordering_key] = [claim]
            groups.append(by_key[claim.ordering_key])
    yield from groups
