"""peer.NAME.DB: the same work by other people's queues and outboxes, on the same servers in the same run."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
import psycopg
from redis import Redis
from sqlalchemy.engine import make_url

from benchmarks.applications.settings import BROKER, COUNTER, DATABASE, QUICK_SENDS
from benchmarks.lab import PROJECT, Lab
from benchmarks.measuring import Figures, Target, in_turns
from benchmarks.peers.catalogue import APPLICATIONS, PEERS, Peer
from benchmarks.peers.environments import python_of, version_of
from benchmarks.rows.end_to_end import rate_of_ours
from benchmarks.rows.stacks import running_ours
from tests.servers.postgresql import libpq_url

WARM_UP = 100
AHEAD = Target(at_least=5)
DATABASES = ("sqlite", "postgresql")


def side_by_side(lab: Lab) -> Iterator[Figures]:
    """peer.NAME.DB: until the counter is right and every row is settled, in the peer's own sense."""
    count = lab.sized(3_000, 400)
    with ExitStack() as closing:
        stacks = [_ours(lab, kind) for kind in DATABASES] + [
            _theirs(lab, peer, kind) for peer in PEERS for kind in peer.workers
        ]
        contenders = [_warmed_up(closing.enter_context(stack)) for stack in stacks]
        measured = {each.name: lambda each=each: _measured(each, count) for each in contenders}
        rates = in_turns(lab.rounds, measured, lab.told)
    for contender in contenders:
        if contender.peer is not None:
            yield _figures(contender.peer, contender, rates, count)


@dataclass
class Contender:
    """Ours, or a peer, on one database. Its processes stand still while another is measured."""

    name: str
    kind: str
    rate: Callable[[int], float]
    """Messages a second of so many."""
    peer: Peer | None = None
    pids: Sequence[int] = ()
    database: str = ""
    error: str = ""
    """Why there is no figure of it."""

    @contextmanager
    def moving(self) -> Iterator[None]:
        self.signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """Between two transactions where there is one writer at a time: stopped within one, it would keep all others out."""
        with _nobody_writes_to(self.database):
            self.signal(signal.SIGSTOP)

    def signal(self, number: int) -> None:
        """To every process of it."""
        for process in [each for pid in self.pids for each in _family(pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


@contextmanager
def _nobody_writes_to(database: str) -> Iterator[None]:
    if not database.startswith("sqlite"):
        yield
        return
    with contextlib.closing(sqlite3.connect(make_url(database).database or "", isolation_level=None, timeout=60)) as connection:
        connection.execute("begin immediate")
        yield


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@contextmanager
def _ours(lab: Lab, kind: str) -> Iterator[Contender]:
    before = set(lab.running)
    with running_ours(lab, kind, options=QUICK_SENDS) as stack:
        pids = [pid for pid in lab.running if pid not in before]
        rate = partial(rate_of_ours, stack)
        contender = Contender(f"ours.{kind}", kind, rate, pids=pids, database=str(stack.outbox.store.engine.url))
        try:
            yield contender
        finally:
            contender.signal(signal.SIGCONT)  # what stands still cannot end


@contextmanager
def _theirs(lab: Lab, peer: Peer, kind: str) -> Iterator[Contender]:
    """A peer that cannot be installed or started is a contender with an error."""
    contender = Contender(f"{peer.name}.{kind}", kind, lambda _count: 0.0, peer)
    with ExitStack() as closing:
        try:
            running = Running(lab, peer, kind, python_of(peer.requirements or peer.name), contender)
            running.call("prepare")
            contender.database = running.environment[DATABASE]
            contender.pids = closing.enter_context(
                lab.processes(peer.workers[kind], running.environment, python=running.python)
            )
            closing.callback(contender.signal, signal.SIGCONT)
            contender.rate = running.rate
        except Exception as error:  # whatever it is belongs into its line of the table
            contender.error = _told(error)
        yield contender


@dataclass
class Running:
    """A peer whose workers run."""

    lab: Lab
    peer: Peer
    kind: str
    python: Path
    contender: Contender
    environment: dict[str, str] = field(init=False)
    redis: "Redis" = field(init=False)

    def __post_init__(self) -> None:
        broker = self.lab.broker()
        self.environment = {DATABASE: self.lab.database(self.kind), BROKER: broker, **self.peer.environment}
        self.redis = self.lab.client(broker)

    def call(self, function: str, *arguments: str) -> None:
        """Run a function of the peer's application in a process of its own."""
        command = [str(self.python), "-m", f"{APPLICATIONS}.command", self.peer.application, function, *arguments]
        done = subprocess.run(
            command, cwd=PROJECT, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{function}: {done.stderr.strip()}")

    def rate(self, count: int) -> float:
        """Its workers stand still while it enqueues; the clock runs from the moment when they move."""
        self.contender.stop()
        self.redis.delete(COUNTER)
        self.call("load", str(count))
        patience_s = self.lab.sized(180, 60)
        started = time.perf_counter()
        self.contender.signal(signal.SIGCONT)
        self.lab.wait(lambda: int(self.redis.get(COUNTER) or 0) >= count, f"{count} sends", patience_s=patience_s)
        if unsettled := self.peer.unsettled:
            with self._connected() as found:
                self.lab.wait(lambda: not found(unsettled), "all to be settled", patience_s=patience_s)
        return count / (time.perf_counter() - started)

    @contextmanager
    def _connected(self) -> Iterator[Callable[[str], object]]:
        url = make_url(self.environment[DATABASE])
        if self.kind == "sqlite":
            with contextlib.closing(sqlite3.connect(url.database or "", isolation_level=None)) as connection:
                yield lambda query: connection.execute(query).fetchone()
        else:
            with psycopg.connect(libpq_url(url), autocommit=True) as connection:
                yield lambda query: connection.execute(query.encode()).fetchone()


def _warmed_up(contender: Contender) -> Contender:
    """Started, and standing still again."""
    _measured(contender, WARM_UP)
    return contender


def _measured(contender: Contender, count: int) -> float:
    """Messages a second. Who fails is told of, and is not measured any more."""
    if contender.error:
        return 0.0
    try:
        with contender.moving():
            return contender.rate(count)
    except Exception as error:
        if contender.peer is None:
            raise
        contender.error = _told(error)
        return 0.0


def _figures(peer: Peer, contender: Contender, rates: dict[str, list[float]], count: int) -> Figures:
    version = version_of(peer.requirements or peer.name)
    what = f"{count:,} waiting messages on {contender.kind}, against {peer.name} {version}"
    theirs = [] if contender.error else rates[contender.name]
    target = AHEAD if peer.acknowledges else Target()
    name = f"peer.{peer.name}.{contender.kind}"
    return Figures(name, what, "/s", rates[f"ours.{contender.kind}"], theirs, target, peer.guarantee, error=contender.error)


def _told(error: Exception) -> str:
    """The end of it, with paths as they are from the project's directory on: the file is for others to read."""
    return f"{type(error).__name__}: {error}".replace(f"{PROJECT}{os.sep}", "")[-2000:]
