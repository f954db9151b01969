"""What a delivery task carries: ids and leases, nothing else. A message that is not understood changes nothing."""

import re
from collections.abc import Sequence
from typing import Any

from outbox.message import Claim

VERSION = 1
LARGEST_BATCH = 10_000

_ID = re.compile(r"[\w-]{1,64}", re.ASCII)


class UnreadableEnvelope(ValueError):
    """A broker message of another version, or one that no release wrote."""


def pack(claims: Sequence[Claim], *, capped: bool, watched: bool = False) -> dict[str, Any]:
    """The keyword arguments of a delivery task.

    Rows of one ordering key share a number, so that the task sends them one after another; the key itself may name a person
    and stays in the database. ``capped`` asks for another relay pass when the task is done; ``watched``, to tell the channel's
    breakers of successes. A claim that is suspect, which travels alone, asks for a process that sends nothing else for it.
    """
    groups: dict[str, int] = {}
    rows: list[list[Any]] = []
    for claim in claims:
        row: list[Any] = [claim.id, claim.lease]
        if claim.ordering_key is not None:
            row.append(groups.setdefault(claim.ordering_key, len(groups) + 1))
        rows.append(row)
    flags = {"more": capped, "watched": watched, "suspect": any(claim.suspect for claim in claims)}
    return {"v": VERSION, "claims": rows, **{name: True for name, is_so in flags.items() if is_so}}


def pull() -> dict[str, Any]:
    """The keyword arguments of a delivery task that claims by itself what is due. A release that cannot does nothing."""
    return {"v": VERSION, "claims": [], "pull": True}


def unpack(version: object, rows: object) -> list[Claim]:
    """The claims of a delivery task. Raises :class:`UnreadableEnvelope`."""
    if version != VERSION:
        raise UnreadableEnvelope(f"envelope version {version!r}, and this release understands {VERSION}")
    if not isinstance(rows, list) or len(rows) > LARGEST_BATCH:
        raise UnreadableEnvelope("the claims are not a list, or too long a one")
    return [_claim(row) for row in rows]


def _claim(row: object) -> Claim:
    match row:
        case [str(message_id), int(lease)] if _is_possible(message_id, lease):
            return Claim(message_id, lease)
        case [str(message_id), int(lease), int(group)] if _is_possible(message_id, lease):
            return Claim(message_id, lease, str(group))
        case _:
            raise UnreadableEnvelope("a claim is an id, a lease and perhaps a group")


def _is_possible(message_id: str, lease: int) -> bool:
    """Whether the database can compare them: one claim that it chokes on would fail the statement for its neighbours."""
    return _ID.fullmatch(message_id) is not None and type(lease) is int and 0 <= lease < 2**63
