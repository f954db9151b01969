"""The other side: ``python -m tests.crash.receiver FILE PORT``, a process with a ledger of its own, which knows no outbox.

Every request is in the ledger before it is answered, and whoever sent it may be dead by then. The body says how it is met.
"""

import json
import sqlite3
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Verdict(StrEnum):
    """How a request was met."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    REJECTED = "rejected"
    UNREADY = "unready"


STATUS = {Verdict.ACCEPTED: 200, Verdict.REFUSED: 503, Verdict.REJECTED: 400, Verdict.UNREADY: 423}


@dataclass(frozen=True)
class Arrival:
    """One request: its place in the ledger, the idempotency key on the wire, the attempt and lease where the sender told them,
    and the time (epoch seconds).
    """

    id: int
    key: str
    attempt: int | None
    lease: int | None
    verdict: Verdict
    at: float


class Ledger:
    """Arrivals in a SQLite file. The receiver writes, the test reads."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._connection.execute("pragma busy_timeout = 10000")
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute(
            "create table if not exists arrival"
            " (seq integer primary key, key text, attempt integer, lease integer, verdict text, at real)"
        )

    def write(self, key: str, attempt: int | None, lease: int | None, verdict: Verdict) -> int:
        """A request that comes now; its id."""
        row = (key, attempt, lease, verdict, time.time())
        written = self._connection.execute("insert into arrival (key, attempt, lease, verdict, at) values (?, ?, ?, ?, ?)", row)
        assert written.lastrowid is not None
        return written.lastrowid

    def arrivals(self, after: int = 0) -> list[Arrival]:
        """All but the first ``after`` of them, in the order of their coming."""
        rows = self._connection.execute(
            "select seq, key, attempt, lease, verdict, at from arrival where seq > ? order by seq", (after,)
        )
        return [Arrival(seq, key, attempt, lease, Verdict(verdict), at) for seq, key, attempt, lease, verdict, at in rows]

    def count(self) -> int:
        """How many have come."""
        [[count]] = self._connection.execute("select coalesce(max(seq), 0) from arrival")
        return int(count)

    def close(self) -> None:
        self._connection.close()


class Receiver(ThreadingHTTPServer):
    """Takes any number of senders at once."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, ledger: Ledger, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self._ledger = ledger
        self._met: dict[Verdict, Counter[str]] = {verdict: Counter() for verdict in Verdict}
        self._accepted: dict[str, int] = {}
        for arrival in ledger.arrivals():  # of an earlier life
            self._count(arrival.key, arrival.verdict, arrival.id)
        self._lock = threading.Lock()

    def meet(self, key: str, attempt: int | None, lease: int | None, script: dict[str, Any]) -> tuple[Verdict, int]:
        """Decide and write down; the verdict, and the id that the request has in the ledger.

        The script counts how many requests of the message are refused, rejected or met unready.
        """
        with self._lock:
            verdict = next((v for v in STATUS if self._met[v][key] < int(script.get(v, 0))), Verdict.ACCEPTED)
            request = self._ledger.write(key, attempt, lease, verdict)
            self._count(key, verdict, request)
            return verdict, request

    def accepted(self, key: str) -> int | None:
        """The first request of a message that was accepted."""
        with self._lock:
            return self._accepted.get(key)

    def _count(self, key: str, verdict: Verdict, request: int) -> None:
        self._met[verdict][key] += 1
        if verdict is Verdict.ACCEPTED:
            self._accepted.setdefault(key, request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that has died is what this is about."""


class Handler(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        script = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = self.headers.get("webhook-id") or self.headers["idempotency-key"]
        attempt, lease = (int(self.headers[name]) if name in self.headers else None for name in ("attempt", "lease"))
        verdict, request = self.server.meet(key, attempt, lease, script)
        time.sleep(script.get("delay", 0))
        self._answer(STATUS[verdict], {"verdict": verdict, "id": request})

    def do_GET(self) -> None:
        [key] = parse_qs(urlsplit(self.path).query)["key"]
        self._answer(200, {"id": self.server.accepted(key)})

    def log_message(self, format: str, *arguments: Any) -> None:
        """The ledger is the log."""

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    receiver = Receiver(Ledger(Path(sys.argv[1])), int(sys.argv[2]))
    threading.Thread(target=lambda: (sys.stdin.read(), receiver.shutdown()), daemon=True).start()
    print(f"http://127.0.0.1:{receiver.server_port}", flush=True)
    receiver.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
