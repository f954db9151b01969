"""SIGKILL, at a moment when it hurts: to a process that is sending."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import psutil

from outbox import Message, Outbox

AT_MOST = 100


class Victim(StrEnum):
    """What is killed."""

    PROCESS = "process"
    """One pool process of a worker node. The node notices, and brings its messages back at once."""
    NODE = "node"
    """A whole worker node, as when its machine dies. Nobody is left to notice but time."""


@dataclass(frozen=True)
class Kill:
    """One kill; ``at`` is epoch seconds, ``sending`` how many messages were being sent there."""

    at: float
    victim: Victim
    pids: Sequence[int]
    sending: int

    def __str__(self) -> str:
        what = "a pool process" if self.victim is Victim.PROCESS else "a whole worker node"
        return f"SIGKILL to {what} ({', '.join(map(str, self.pids))}) that was sending {self.sending} of them"


def kill(victim: Victim, outbox: Outbox, nodes: Sequence[int]) -> Kill | None:
    """Kill a process of ``nodes`` (pids) that is sending, or its whole node; ``None`` when none could be caught at it."""
    for pid in {_sender(message) for message in _being_sent(outbox)}:
        with suppress(psutil.NoSuchProcess):
            family = _family(victim, psutil.Process(pid), nodes)
            _each(family, psutil.Process.suspend)
            sending = sum(_sender(message) in {process.pid for process in family} for message in _being_sent(outbox))
            if not sending:  # it had just finished
                _each(family, psutil.Process.resume)
                continue
            at = time.time()
            _each(family, psutil.Process.kill)
            return Kill(at, victim, [process.pid for process in family], sending)
    return None


def _family(victim: Victim, sender: psutil.Process, nodes: Sequence[int]) -> list[psutil.Process]:
    node = next((parent for parent in sender.parents() if parent.pid in nodes), None)
    if node is None:
        return []
    return [sender] if victim is Victim.PROCESS else [node, *node.children(recursive=True)]


def _each(family: Iterable[psutil.Process], act: Callable[[psutil.Process], None]) -> None:
    for process in family:
        with suppress(psutil.NoSuchProcess):
            act(process)


def _being_sent(outbox: Outbox) -> Sequence[Message]:
    return outbox.list(status="sending", limit=AT_MOST)


def _sender(message: Message) -> int:
    """The last part of the lease owner's name is its pid."""
    return int((message.lease_owner or "").rpartition(":")[2] or -1)
