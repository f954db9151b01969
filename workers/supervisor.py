"""The whole service on one machine: broker, worker nodes, beat and Flower as children that end with this process."""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Self

from config.settings import Settings, variable
from outbox.errors import BrokerUnavailable, ConfigurationError
from outbox.local.leash import Leash
from workers import broker, embedded_broker, metrics, stack
from workers.child import Child, ChildStatus, Stage

POLL_S: Final = 0.1
BROKER_START_TIMEOUT_S: Final = 15.0
LEAST_GRACE_S: Final = 3.0
"""What a stage gets to end in good order, even when the stages before it used up the grace."""


class Supervisor:
    """Starts the service's processes, starts again what dies, and takes them all along when it ends, however it ends.

    A context manager, or `start` and `stop`. ``say`` is told, in one line each, what happens, and must not raise. Two
    supervisors never share a data directory. A process that holds one may start others, but must not fork itself without
    exec: the copy would hold the leash, and the children outlive the original.
    """

    def __init__(self, settings: Settings, say: Callable[[str], None] = print, *, log_to_files: bool = True) -> None:
        self.settings = settings
        self._say = say
        self._log_dir = settings.data_dir / "log" if log_to_files else None
        self._children: list[Child] = []
        self._leash = Leash()
        self._held = ExitStack()
        self._stop_requests = 0
        self._keeper = threading.Thread(target=self._keep_alive, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Bring the database up to date and start everything.

        Raises :class:`~outbox.errors.OutboxError` with one line that says what to do; nothing is left running then.
        """
        stack.check(self.settings)
        self.settings.make_data_dir()
        self._held.enter_context(_only_one(self.settings.data_dir))
        try:
            if self._log_dir is not None:
                self._log_dir.mkdir(mode=0o700, exist_ok=True)
            stack.upgrade_database(self.settings)
            metrics.begin_anew(self.settings)
            self._held.callback(self._leash.let_go)
            self._children = stack.children(self.settings, self._log_dir, self._say)
            self._start_broker()
            self._tend()
        except BaseException:
            self.stop()
            raise
        self._keeper.start()

    def wait(self) -> None:
        """Return when `request_stop` was called."""
        while not self._stop_requests:
            time.sleep(POLL_S)

    def request_stop(self) -> None:
        """Ask to stop; asked twice, without grace. May be called in a signal handler and from any thread."""
        self._stop_requests += 1

    def stop(self) -> None:
        """Stop everything, stage by stage: what is being sent may end within the grace, then it is killed."""
        self._stop_requests = max(1, self._stop_requests)
        if self._keeper.is_alive():
            self._keeper.join()
        deadline = time.monotonic() + self.settings.shutdown_grace_s
        for stage in reversed(Stage):
            self._stop_stage(self._of(stage), deadline)
        self._held.close()

    def status(self) -> list[ChildStatus]:
        """Every child, in the order of their starting."""
        return [child.status for child in self._children]

    def _of(self, stage: Stage) -> list[Child]:
        return [child for child in self._children if child.stage is stage]

    def _keep_alive(self) -> None:
        while not self._stop_requests:
            try:
                self._tend()
            except OSError as error:  # no memory or no process left for the leash
                self._say(f"cannot look after the processes: {error}")
                time.sleep(1)
            time.sleep(POLL_S)

    def _tend(self) -> None:
        self._leash.hold()
        for child in self._children:
            if (how := child.end_noticed()) is not None:
                self._say(f"{child.name} {how}; {_again(child.plan_restart())}{_see(child.log)}")
            if child.start_at is not None and child.start_at <= time.monotonic():
                self._start_child(child)

    def _start_child(self, child: Child) -> None:
        try:
            child.start(self._leash.group)
        except OSError as error:
            self._say(f"{child.name} cannot be started: {error}; {_again(child.plan_restart())}")
        else:
            self._say(f"{child.name} started, pid {child.pid}")

    def _start_broker(self) -> None:
        if self.settings.broker_url is not None:
            self._greet(self.settings.broker_url)
            return
        embedded_broker.end_orphan(self.settings.data_dir)
        self._leash.hold()
        deadline = time.monotonic() + BROKER_START_TIMEOUT_S
        for child in self._of(Stage.BROKER):
            self._start_child(child)
            while not embedded_broker.answers(self.settings.data_dir):
                if child.pid is None or time.monotonic() > deadline:
                    raise BrokerUnavailable(f"the embedded broker does not start{_see(child.log)}")
                time.sleep(POLL_S / 10)

    def _greet(self, url: str) -> None:
        try:
            broker.require_answer(url)
        except BrokerUnavailable as error:
            self._say(f"the broker {error}; the workers keep trying")

    def _stop_stage(self, children: list[Child], deadline: float) -> None:
        deadline = max(deadline, time.monotonic() + LEAST_GRACE_S)
        for child in children:
            child.terminate()
        while (running := [child for child in children if child.pid is not None]) and self._stop_requests < 2:
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_S / 10)
        for child in running:
            self._say(f"{child.name} is killed: it did not end in time")
            child.kill()


@contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    # The kernel gives the lock back whenever its holder ends, so no file of a dead supervisor stands in the way.
    with (data_dir / "supervisor.pid").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise ConfigurationError(
                f"{data_dir} belongs to a running supervisor (pid {holder}); stop it or choose another {variable('data_dir')}"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _again(pause_s: float) -> str:
    return f"again in {pause_s:g} s" if pause_s else "again now"


def _see(log: Path | None) -> str:
    return f" (see {log})" if log is not None else ""
