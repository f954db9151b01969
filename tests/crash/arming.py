"""Plans: at which checkpoint, and at which hit, a process that the test did not start itself has to die or stand still.

A plan is a file, named after its checkpoint, so that processes which run already follow it as well. Whoever comes to the
checkpoint adds a byte to it, and so knows how many came before, in whatever process: it dies once, and lives when it is
started again.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from outbox import checkpoints

ANY = "any"
"""In the place of a checkpoint: every one of them, counted together."""


class Act(StrEnum):
    """What becomes of whoever makes the planned hit."""

    KILL = "kill"
    """SIGKILL for this process alone: the child of a pool, or a node whose pool is made of threads."""
    NODE = "node"
    """SIGKILL for its whole process group, as when a host dies."""
    STOP = "stop"
    """SIGSTOP: it stands still until somebody wakes it."""


@dataclass(frozen=True)
class Deed:
    """A plan carried out: who did what, where, and when (epoch seconds)."""

    checkpoint: str
    hit: int
    act: Act
    pid: int
    at: float
    owner: str = ""
    """The name under which that process holds leases, if it ever does."""


class Plans:
    """The plans in one directory. A test lays them, processes :meth:`obey` them.

    A process may have a ``role``; a plan for ``<checkpoint>@<role>`` is for such processes alone.
    """

    def __init__(self, directory: Path, role: str = "", owner: Callable[[], str] = str) -> None:
        """``owner`` tells under which name the process that asks holds leases."""
        self._owner = owner
        self._directory = directory
        self._role = role
        self._deeds = directory / "deeds"

    def lay(self, checkpoint: str, acts: dict[int, Act]) -> None:
        """From now on the hits (counted from 1) that ``acts`` names are answered by its acts."""
        draft = self._directory / "draft"
        draft.write_text(json.dumps(acts) + "\n")
        draft.rename(self._directory / checkpoint)

    def lift(self) -> None:
        """No plan holds any more; the deeds stay on record."""
        for plan in self._directory.iterdir():
            if plan != self._deeds:
                plan.unlink()

    def deeds(self) -> list[Deed]:
        """What was carried out, in its order."""
        lines = self._deeds.read_text().splitlines() if self._deeds.exists() else []
        return [Deed(**{**fields, "act": Act(fields["act"])}) for fields in map(json.loads, lines)]

    def obey(self) -> None:
        """Follow the plans in this process and those that it forks."""
        checkpoints.listen(self._meet)

    def _meet(self, checkpoint: str) -> None:
        for name in (checkpoint, f"{checkpoint}@{self._role}", ANY):
            try:
                plan = os.open(self._directory / name, os.O_RDWR | os.O_APPEND)
            except FileNotFoundError:
                continue
            try:
                acts, hit = _hit(plan)
            finally:
                os.close(plan)
            if hit in acts:
                self._do(Deed(checkpoint, hit, acts[hit], os.getpid(), time.time(), self._owner()))

    def _do(self, deed: Deed) -> None:
        record = os.open(self._deeds, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(record, json.dumps(asdict(deed)).encode() + b"\n")
        os.close(record)
        _ACTS[deed.act]()


def _hit(plan: int) -> tuple[dict[int, Act], int]:
    os.write(plan, b".")  # where it landed, after those of all others, is which hit this is
    end = os.lseek(plan, 0, os.SEEK_CUR)
    acts = os.pread(plan, end, 0).split(b"\n", 1)[0]
    return {int(hit): Act(act) for hit, act in json.loads(acts).items()}, end - len(acts) - 1


_ACTS: dict[Act, Callable[[], None]] = {
    Act.KILL: lambda: os.kill(os.getpid(), signal.SIGKILL),
    Act.NODE: lambda: os.killpg(os.getpgid(0), signal.SIGKILL),
    # To this very thread: sent to the process, it may reach another thread first, and this one runs on for a moment.
    Act.STOP: lambda: signal.pthread_kill(threading.get_ident(), signal.SIGSTOP),
}
