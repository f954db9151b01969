"""Who is measured, how each is run at its documented best, and what each promises."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.rows.stacks import WORKER

APPLICATIONS = "benchmarks.peers.applications"
BOTH = ("sqlite", "postgresql")
PROCESSES = 2
"""Of each kind, as ours has two worker processes: there are two cores."""

Command = Sequence[str]


@dataclass(frozen=True)
class Peer:
    """One way of running one peer."""

    name: str
    application: str
    """Its module in :data:`APPLICATIONS`, which has ``prepare`` and ``load``."""
    workers: Mapping[str, Sequence[Command]]
    """What runs while it is measured, on each database that it can use."""
    unsettled: str | None
    """A query that finds a row while anything is still to be recorded; none where nothing is recorded."""
    acknowledges: bool
    """Whether the outcome of each delivery is recorded in the database, after it."""
    guarantee: str
    settings: str
    """What was chosen for it, and why, where there was a choice."""
    requirements: str = ""
    """The requirements file, where it is not the name."""
    environment: Mapping[str, str] = field(default_factory=dict)


def _celery(application: str) -> Command:
    return ("celery", "-A", f"{APPLICATIONS}.{application}", *WORKER, "-n", f"{application}@bench")


def _relay(application: str) -> Command:
    return (f"{APPLICATIONS}.command", application, "relay")


_HUEY = (
    "huey.bin.huey_consumer", f"{APPLICATIONS}.huey_app.huey", "-k", "process", "-w", str(PROCESSES),
    "-d", "0.01", "-m", "0.05", "-q", "-n",
)  # fmt: skip
_UNSETTLED_EVENTS = "select 1 from django_domain_events_deliveryrecord where status <> 'succeeded' limit 1"

PEERS = (
    Peer(
        name="django-domain-events",
        application="domain_events",
        workers={"sqlite": [_relay("domain_events")], "postgresql": [_relay("domain_events")] * PROCESSES},
        unsettled=_UNSETTLED_EVENTS,
        acknowledges=True,
        guarantee="at least once, acknowledged row by row under a fence, in a transaction that is open while the receiver runs",
        settings="receivers run in the relay, its default site; BATCH_SIZE=500, POLL_SECONDS=0.05; two relays on PostgreSQL,"
        " one on SQLite, where it allows no more",
    ),
    Peer(
        name="django-domain-events-celery",
        application="domain_events",
        workers={kind: [_relay("domain_events"), _celery("domain_events")] for kind in BOTH},
        unsettled=_UNSETTLED_EVENTS,
        acknowledges=True,
        guarantee="at least once, taken and acknowledged row by row under a fence, one broker message a row",
        settings='receivers with site="task" run on Celery, as ours do; one relay beside the worker, set alike',
        requirements="django-domain-events",
        environment={"BENCH_SITE": "task"},
    ),
    Peer(
        name="django-celery-outbox",
        application="celery_outbox",
        workers={"postgresql": [_relay("celery_outbox"), _celery("celery_outbox")]},
        unsettled="select 1 from celery_outbox limit 1",
        acknowledges=False,
        guarantee="ends where the broker has accepted the task: what happens to it then is recorded nowhere",
        settings="--batch-size 500, --idle-time 0.05, no metrics; one relay beside the worker",
    ),
    Peer(
        name="procrastinate",
        application="procrastinate_app",
        workers={"postgresql": [("procrastinate", "-a", f"{APPLICATIONS}.procrastinate_app.app", "worker")] * PROCESSES},
        unsettled="select 1 from procrastinate_jobs where status in ('todo', 'doing') limit 1",
        acknowledges=True,
        guarantee="at least once, acknowledged job by job without a fence; a dead worker's jobs wait for code of the user's",
        settings="two workers of its own, asynchronous tasks, 20 at once",
    ),
    Peer(
        name="pgqueuer",
        application="pgqueuer_app",
        workers={"postgresql": [(f"{APPLICATIONS}.command", "pgqueuer_app", "worker")] * PROCESSES},
        unsettled="select 1 from pgqueuer limit 1",
        acknowledges=True,
        guarantee="at least once, acknowledged in groups by id alone, without a fence",
        settings="two workers of its own on asyncpg and uvloop, asynchronous entry points, --batch-size 100",
    ),
    Peer(
        name="huey",
        application="huey_app",
        workers={kind: [_HUEY] for kind in BOTH},
        unsettled=None,
        acknowledges=False,
        guarantee="at most once: a task leaves the database before it runs; enqueueing is outside the caller's transaction",
        settings="two worker processes, polling every 10 to 50 ms, fsync on, no results",
    ),
    Peer(
        name="celery-on-commit",
        application="on_commit",
        workers={kind: [_celery("on_commit")] for kind in BOTH},
        unsettled=None,
        acknowledges=False,
        guarantee="at most once: lost if the process dies, or the broker is away, between the commit and the publishing",
        settings="Django's delay_on_commit; the measured part is bare Celery whatever the database",
    ),
)
