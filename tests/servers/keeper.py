"""Runs one server for exactly as long as somebody holds this program's standard input open.

Fixtures clean up only if pytest ends in good order. The kernel closes the pipe however pytest ends, SIGKILL included,
so no server and no data directory outlives the tests. Started by :mod:`tests.servers.kept`; imports nothing of ours.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil

GRACE_S = 10
KEEP_DIRECTORY = "keep directory\n"


def main(order: dict[str, Any]) -> None:
    """Run the server, print its process id, and at the end of input stop it and remove its directory."""
    directory = Path(order["directory"])
    server = _start(order, directory)
    # Reaps the server when it dies early, so that its process id tells the truth.
    threading.Thread(target=server.wait, daemon=True).start()
    print(server.pid, flush=True)

    last_word = sys.stdin.readline()
    _stop(server, order["stop_signal"])
    if last_word != KEEP_DIRECTORY:
        shutil.rmtree(directory, ignore_errors=True)


def _start(order: dict[str, Any], directory: Path) -> "subprocess.Popen[bytes]":
    account = {"user": order["user"], "extra_groups": []} if order["user"] is not None else {}
    with (directory / "server.log").open("ab") as log:
        return subprocess.Popen(
            order["command"],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **account,
        )


def _stop(server: "subprocess.Popen[bytes]", stop_signal: int) -> None:
    # A frozen server must wake up to hear the request; whatever ignores it, or outlives its leader, is killed.
    family = process_tree(server.pid)
    _signal_group(server.pid, stop_signal)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(GRACE_S)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _signal_group(server.pid, signal.SIGKILL)
    server.wait()


def process_tree(pid: int) -> list[psutil.Process]:
    """The process and all that descend from it; PostgreSQL's are not in its process group."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
