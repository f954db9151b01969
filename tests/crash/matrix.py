"""The cells of the crash matrix: at which checkpoint a process dies, doing what, and whether a send may be cut off by it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.crash import workloads
from tests.crash.arming import Act
from tests.crash.copies import Copies
from tests.crash.workloads import Workload

BOTH = ("before_commit", "committed")
PASSES = ("mend", "unfuture", "forget_buckets", "tally", "forget_tallies")
"""Services of maintenance that write in every pass."""


@dataclass(frozen=True)
class Deed:
    """Something that an operator does once every message of the run is at rest, or before the first is committed."""

    verb: str
    options: Mapping[str, Any] = field(default_factory=dict)
    by_id: bool = True
    """Whether it names the messages of the run."""


@dataclass(frozen=True)
class Cell:
    """One run of the matrix."""

    checkpoint: str
    workload: Workload = workloads.letters
    hits: Sequence[int] = (1, 3)
    """The hits that end a process: the first that process alone, the second its whole node, and so on in turn. All of them have
    to come: where one workload does not make for so many, it is committed again.
    """
    may_repeat: bool = False
    """Whether a send may be under way, or its outcome not be recorded yet, when the process dies."""
    by_hand: bool = False
    """Whether the application itself dies, in the process that commits, and then does its work once more."""
    prelude: str | None = None
    """A checkpoint at which a node has died before: one of deliveries, or the pool process of whoever ``checkpoint`` names."""
    held: bool = False
    """Whether the relay is away until leases or lifetimes have run out, so that maintenance meets something at once."""
    unrelayed: int = 0
    """How many of the deaths come while there is no relay: the application nudges, once for each, and delivery tasks claim."""
    comes_back: bool = False
    """Whether what the dead process had claimed is due again before there is a relay: its node has seen it die."""
    before: Sequence[Deed] = ()
    waiting: Sequence[Deed] = ()
    """Done while the messages wait."""
    after: Sequence[Deed] = ()
    pools: Sequence[str] = ("prefork", "threads")
    title: str = ""

    @property
    def copies(self) -> Copies:
        """Which second copies it may leave."""
        return Copies.OF_THE_DEAD if self.may_repeat else Copies.NONE

    @property
    def name(self) -> str:
        """Checkpoint and, where it stands for more than one cell, what is special."""
        return f"{self.checkpoint} {self.title}".strip()


def _both(verb: str, role: str = "", **options: Any) -> list[Cell]:
    """Both sides of a verb's commit; with ``role``, in nodes of that role alone."""
    return [Cell(f"{verb}.{side}{role and '@'}{role}", **options) for side in BOTH]


def _around(verb: str, workload: Workload, **options: Any) -> list[Cell]:
    """Both sides of a commit that records outcomes: before it nobody knows them, after it everybody does."""
    return [
        Cell(f"{verb}.before_commit", workload, may_repeat=True, **options),
        Cell(f"{verb}.committed", workload, **options),
    ]


_PAUSE = Deed("pause", {"channel": "single"}, by_id=False)
_RESUME = Deed("resume", {"channel": "single"}, by_id=False)
_HAND: dict[str, Any] = {"hits": (1,)}
"""A process of its own, whose node is nobody else's: to die in it once more would be the same death."""
_PARENT: dict[str, Any] = {"hits": (1,), "pools": ("prefork",)}
"""The main process of a pool, which dies of another death: nobody else knows of that one, so there is one hit to make."""

CELLS: Sequence[Cell] = [
    # The application.
    Cell("enqueue.inserted", by_hand=True, **_HAND),
    Cell("enqueue.nudge", by_hand=True, **_HAND),
    # The relay.
    *_both("stamp", hits=(1, 2)),
    *_both("claim"),
    Cell("publish.next", workloads.singles, hits=(1, 4)),
    Cell("publish.done"),
    Cell("redispatch.before_commit", hits=(1, 2), prelude="task.received"),
    Cell("redispatch.committed", hits=(1, 2), prelude="task.received"),
    # A delivery task that claims by itself what is due, and one that claims in the place of what has ended.
    *_both("claim", "delivery", hits=(1, 2), unrelayed=2, title="(of a pull)"),
    Cell("claim.committed@delivery", unrelayed=1, hits=(1,), comes_back=True, title="(recalled)", pools=("prefork",)),
    *_both("recall", "delivery", unrelayed=1, prelude="claim.committed", title="(of a pull)", **_PARENT),
    Cell("claim.committed@delivery", workloads.capped, hits=(2, 4), unrelayed=1, title="(of a refill)"),
    Cell("publish.next@delivery", workloads.capped, hits=(2, 4), unrelayed=1, title="(of a refill)"),
    # A delivery.
    Cell("task.received"),
    *_both("take"),
    Cell("send.before"),
    Cell("request.sent", may_repeat=True),
    Cell("send.after", may_repeat=True),
    *_around("settle", workloads.letters),
    *_around("settle_and_take", workloads.letters),
    *_both("work_and_settle", workload=workloads.entries),
    Cell("extend.before_commit", workloads.slow, hits=(1, 4), may_repeat=True),
    Cell("extend.committed", workloads.slow, hits=(1, 4), may_repeat=True),
    Cell("task.aside", workloads.sluggish, hits=(1, 2), may_repeat=True),
    # The same with many sends under way.
    Cell("send.before", workloads.crowd, hits=(5, 20), may_repeat=True, title="(crowd)"),
    Cell("send.after", workloads.crowd, hits=(5, 20), may_repeat=True, title="(crowd)"),
    *(Cell(f"settle_and_take.{side}", workloads.crowd, hits=(1, 4), may_repeat=True, title="(crowd)") for side in BOTH),
    # Failures.
    *(Cell(c.checkpoint, c.workload, c.hits, c.may_repeat, title="(refusals)") for c in _around("settle", workloads.refusals)),
    *_both("release", workload=workloads.refusals, hits=(1, 2), may_repeat=True),
    *_both("note_failures", workload=workloads.broken, hits=(1, 2), may_repeat=True),
    *_both("note_successes", workload=workloads.broken, hits=(1, 2), may_repeat=True),
    *_both("close_growing", workload=workloads.unready, hits=(1, 2), may_repeat=True),
    # What channels may say of an unknown outcome.
    Cell("request.sent", workloads.parking, hits=(1, 2), title="(parks)"),
    Cell("request.sent", workloads.asking, hits=(1, 4), title="(asks)"),
    Cell("settle.before_commit", workloads.asking, hits=(1, 2), title="(asks)"),
    # Maintenance.
    *_both("rescue", hits=(1, 2), prelude="send.before", held=True),
    *_both("rescue", "delivery", prelude="send.before", title="(of a pool process)", **_PARENT),
    *_both("recall", "relay", prelude="claim.committed", title="(of a pool process)", **_PARENT),
    *_both("expire", workload=workloads.late, hits=(1, 2), held=True),
    *_both("prune", workload=workloads.fleeting, hits=(1, 2)),
    *_both("blank", workload=workloads.blanking, hits=(1, 2)),
    *(cell for verb in PASSES for cell in _both(verb, hits=(1, 2))),
    # Operators.
    *_both("close", workload=workloads.singles, before=[_PAUSE], waiting=[_RESUME], **_HAND),
    *_both("reopen", workload=workloads.singles, before=[_PAUSE], waiting=[_RESUME], **_HAND),
    *_both("cancel", workload=workloads.withdrawn, waiting=[Deed("cancel")], **_HAND),
    *_both("replay", workload=workloads.rejected_once, after=[Deed("retry", {"status": "failed_terminal"})], **_HAND),
    *_both(
        "resolve", workload=workloads.resolved, prelude="request.sent", may_repeat=True,
        after=[Deed("resolve", {"sent": False})], **_HAND,
    ),
]  # fmt: skip

SHORT = {
    ("sqlite", "prefork"): ("claim.committed", "send.before", "request.sent", "settle.before_commit", "settle.committed"),
    ("postgresql", "threads"): ("enqueue.inserted", "publish.next", "take.committed", "settle_and_take.before_commit"),
}
"""What every run of the tests looks at, by database and pool."""


def acts(hits: Sequence[int]) -> dict[int, Act]:
    """Every other hit ends one process, those between a whole node."""
    return {hit: Act.NODE if place % 2 else Act.KILL for place, hit in enumerate(hits)}
