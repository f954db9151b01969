"""Writers of one SQLite file queue for its write lock.

SQLite itself has no queue. Who finds the lock taken asks again after 1, 2, 5 … 100 ms, and whoever comes by meanwhile has it:
beside processes that write often, others wait for hundreds of milliseconds while the lock is free half of the time. So each of
ours first waits for the lock of a file beside the database, which the system hands on at once.

It is a courtesy and decides nothing: who may write is SQLite's to say. Therefore whoever has waited for too long, because
somebody was frozen at the head of the queue, goes ahead.
"""

import _thread
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import BuiltinFunctionType
from typing import Any
from weakref import WeakValueDictionary

if sys.platform != "win32":  # there, writers ask again and again
    import fcntl

LONGEST_WAIT_S = 2.0
SUFFIX = "-queue"
"""Of the file beside the database. It stays empty, and may be deleted while nobody writes."""


class WriteQueue:
    """The writers of one database, in this process and in others.

    The file's lock is the process's (POSIX): it goes when the process dies and does not cross a fork. So a process has one
    object for a file, which holds a lock for its threads as well.
    """

    def __init__(self, path: str) -> None:
        self._threads = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def enter(self, longest_s: float) -> bool:
        """Wait to be at its head; false where that took too long."""
        until = time.monotonic() + longest_s
        if not self._threads.acquire(timeout=longest_s):
            return False
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return _Waiting(self).wait(until - time.monotonic())
        except OSError:  # a file system without locks
            self._threads.release()
            return False
        return True

    def wait_for_processes(self) -> bool:
        """However long it takes; false where the system will not have it.

        To it, who waits is the process and not the thread: two processes whose threads write to two databases look deadlocked.
        """
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
        except OSError:
            return False
        return True

    def leave(self) -> None:
        """Make room for the next."""
        with suppress(OSError):  # a file system that has lost its server: whoever waits goes ahead in the end
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        self._threads.release()

    def after_fork(self) -> None:
        """The parent's thread that was at the head is not here."""
        self._threads = threading.Lock()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)


class _Waiting(threading.Thread):
    """Waits for other processes, because a lock of a file knows no timeout. Who comes to the head too late leaves at once."""

    def __init__(self, queue: WriteQueue) -> None:
        super().__init__(name="outbox-write-queue", daemon=True)
        self._queue = queue
        self._answering = threading.Lock()
        self._has_come = self._is_given_up = False

    def wait(self, longest_s: float) -> bool:
        try:
            self.start()
        except RuntimeError:  # there is no room for another thread
            self._queue.leave()
            return False
        try:
            self.join(max(0.0, longest_s))
        except BaseException:  # a time limit of the task
            if not self._give_up():
                self._queue.leave()
            raise
        return self._has_come or not self._give_up()

    def _give_up(self) -> bool:
        """Whether it had not come yet."""
        with self._answering:
            self._is_given_up = not self._has_come
        return self._is_given_up

    def run(self) -> None:
        comes = self._queue.wait_for_processes()
        with self._answering:
            self._has_come = comes and not self._is_given_up
        if not self._has_come:
            self._queue.leave()


class QueuedConnection(sqlite3.Connection):
    """A connection that, once it has come to the head of the queue, is there until its transaction ends.

    ``queue`` is ``None`` where the database is no file that others can write too.
    """

    is_at_head = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        (_, _, database), *_ = self.execute("PRAGMA database_list")
        self.queue = _queue_of(database)

    def enter_queue(self) -> None:
        """Wait to be at the head, for a transaction that is about to write."""
        if self.queue is not None and not self.is_at_head:
            self.is_at_head = self.queue.enter(LONGEST_WAIT_S)

    def leave_queue(self) -> None:
        """Once the transaction is over."""
        if self.queue is not None and self.is_at_head:
            self.is_at_head = False
            self.queue.leave()

    def commit(self) -> None:
        try:
            super().commit()
        finally:
            self.leave_queue()

    def rollback(self) -> None:
        try:
            super().rollback()
        finally:
            self.leave_queue()

    def close(self) -> None:
        try:
            super().close()
        finally:
            self.leave_queue()


@contextmanager
def queued(connection: object) -> Iterator[None]:
    """Begin a transaction of a :class:`QueuedConnection` in here; any other connection's begins as it would anyway."""
    if not isinstance(connection, QueuedConnection):
        yield
        return
    connection.enter_queue()
    try:
        yield
    except BaseException:
        connection.leave_queue()
        raise


_queues: WeakValueDictionary[str, WriteQueue] = WeakValueDictionary()
_finding = threading.Lock()


def _queue_of(database: str) -> WriteQueue | None:
    if sys.platform == "win32" or not database or not _threads_are_real():
        return None
    path = os.path.realpath(database) + SUFFIX
    with _finding:
        queue = _queues.get(path)
        if queue is None:
            try:
                queue = _queues[path] = WriteQueue(path)
            except OSError:  # the database can be written, and nothing else beside it
                return None
    return queue


def _threads_are_real() -> bool:
    """Not where gevent or eventlet has taken their place: a wait for the lock of a file would hold up everything."""
    return isinstance(_thread.start_new_thread, BuiltinFunctionType)


def _after_fork() -> None:
    for queue in list(_queues.values()):
        queue.after_fork()


if sys.platform != "win32":
    os.register_at_fork(before=_finding.acquire, after_in_parent=_finding.release, after_in_child=_finding.release)
    os.register_at_fork(after_in_child=_after_fork)
