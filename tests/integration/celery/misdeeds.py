"""What a handler may do to the process that runs it."""

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

import psutil

_ROOM = 64 * 2**20


class Own(BaseException):
    """Not an ``Exception``: whoever catches only those lets it pass."""


def exhaust_memory() -> None:
    """Until there is none left, under a limit that holds as long as it takes."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + _ROOM, limits[1]))
    try:
        hoard: list[bytearray] = []
        while True:
            hoard.append(bytearray(2**20))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def exhaust_file_handles() -> None:
    """Until no file can be opened, and nobody else can open one meanwhile."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (psutil.Process().num_fds() + 20, limits[1]))
    handles: list[int] = []
    try:
        while True:
            handles.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for handle in handles:
            os.close(handle)


def recurse() -> None:
    recurse()


def never_return() -> NoReturn:
    """On a thread it keeps the thread; on an event loop it keeps the loop."""
    while True:
        time.sleep(3600)


def give_up_output() -> None:
    """Whoever prints or logs after this writes into a closed file."""
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = open(os.devnull, "w")  # noqa: SIM115
    sys.stdout.close()
    raise ValueError("nobody hears it")


def terminate_itself() -> NoReturn:
    os.kill(os.getpid(), signal.SIGTERM)
    never_return()


def close_all_files() -> NoReturn:
    """Those of the pool and of the database too."""
    os.closerange(3, 4096)
    raise ValueError("everything is closed")


def raising(error: BaseException) -> Callable[[], None]:
    def misdeed() -> None:
        raise error

    return misdeed


SURVIVED: dict[str, Callable[[], object]] = {
    "exhausts memory": exhaust_memory,
    "exhausts file handles": exhaust_file_handles,
    "recurses": recurse,
    "never returns": never_return,
    "gives up its output": give_up_output,
    "SystemExit": raising(SystemExit(0)),
    "KeyboardInterrupt": raising(KeyboardInterrupt()),
    "GeneratorExit": raising(GeneratorExit()),
    "own BaseException": raising(Own()),
}
"""The process lives on."""

DEADLY: dict[str, Callable[[], object]] = {
    "reads from nowhere": lambda: ctypes.string_at(0),
    "exits": lambda: os._exit(0),
    "aborts": os.abort,
    "terminates itself": terminate_itself,
    "kills itself": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "closes all files": close_all_files,
}
"""The process ends, or cannot go on."""

MISDEEDS = SURVIVED | DEADLY
