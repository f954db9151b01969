"""A run of the whole service, as it shows itself: on /metrics, in Flower, and in its logs."""

import base64
import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from outbox import NewMessage, Outbox
from outbox.integrations.prometheus.catalogue import ASKED, COUNTED
from outbox.lifecycle import TERMINAL
from tests.servers.kept import free_port
from tests.servers.supervised import PATIENCE_S, Service, eventually, start

# One run for all tests, also where several processes share them.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("watching a run")]

CHANNELS = """\
[console]
[webhook]
allow_http = true
allow_networks = ["127.0.0.0/8"]
max_attempts = 2
backoff = [0.1]
batch_size = 10
"""
PAYLOAD, WAITING = "a secret that was told", 3


class Run:
    """The service in prefork, over which 40 messages went and in whose middle a pool process was killed."""

    def __init__(self, directory: Path) -> None:
        (directory / "channels.toml").write_text(CHANNELS)
        self.ports = {name: free_port() for name in ("flower", "metrics")}
        self._nobody = socket.socket()
        self._nobody.bind(("127.0.0.1", 0))  # and never listens: whoever connects is refused
        self.database_url = f"sqlite:///{directory / 'outbox.db'}"
        self.service = Service(
            directory / "var",
            database_url=self.database_url, channels=str(directory / "channels.toml"), pool="prefork", concurrency="2",
            flower="yes", flower_port=str(self.ports["flower"]), metrics="yes", metrics_port=str(self.ports["metrics"]),
            log_format="json", maintain_interval_s="0.5",
        )  # fmt: skip
        self.target = f"http://127.0.0.1:{self._nobody.getsockname()[1]}/hook"

    def deliver(self) -> None:
        self.service.says("running")
        self.outbox = Outbox(self.database_url)
        eventually(self.flower_listens, "Flower does not hear of the worker")
        self._send(20)
        eventually(lambda: sum(self.attempts().values()) == 30, "what was done is not counted")
        os.kill(psutil.Process(self.service.pid_of("node-1")).children()[0].pid, signal.SIGKILL)
        self._send(20)
        with self.outbox.store.transaction() as tx:
            later = [NewMessage(channel="console", payload=PAYLOAD, delay=3600) for _ in range(WAITING)]
            self.outbox.enqueue_many(tx.connection, later)

    def close(self) -> None:
        self.service.close()
        self.outbox.close()
        self._nobody.close()

    def _send(self, count: int) -> None:
        there = sum(self.ended().values())
        with self.outbox.store.transaction() as tx:
            for number in range(count // 2):
                self.outbox.enqueue(tx.connection, "console", payload=PAYLOAD)
                self.outbox.enqueue(tx.connection, "webhook", target=f"{self.target}/{number}", payload=PAYLOAD)
        eventually(lambda: sum(self.ended().values()) == there + count, "not every message comes to its end")

    def ended(self) -> Counter[tuple[str, str]]:
        """Messages that are over, by channel and status, as the database has them."""
        counts: Counter[tuple[str, str]] = Counter()
        for stats in self.outbox.stats():
            counts.update({(stats.channel, str(status)): n for status, n in stats.by_status.items() if status in TERMINAL})
        return counts

    def attempts(self) -> dict[Any, float]:
        """Attempts by channel and outcome, as the exporter has them."""
        return samples(self.scrape(), "outbox_attempts_total", "channel", "outcome")

    def scrape(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['metrics']}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def flower(self, path: str, *, with_password: bool = True) -> str:
        password = (self.service.data_dir / "flower-password").read_text()
        credentials = base64.b64encode(f"outbox:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}"} if with_password else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports['flower']}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())

    def flower_listens(self) -> bool:
        try:
            return "node-1@" in self.flower("/api/workers?refresh=true")
        except (OSError, urllib.error.URLError):
            return False


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = Run(tmp_path_factory.mktemp("run"))
    with closing(run):
        run.deliver()
        yield run


def samples(text: str, name: str, *labels: str) -> dict[Any, float]:
    """The samples of that name that are not 0, by the values of ``labels``."""
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples if sample.name == name]
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in found if sample.value}


# Prometheus.


def test_the_numbers_of_a_scrape_are_those_of_the_database_although_a_process_was_killed(run: Run) -> None:
    expected = {("console", "delivered"): 20, ("webhook", "retry"): 40}

    eventually(lambda: run.attempts() == expected, f"{expected} attempts, but {run.attempts()}")
    with run.outbox.store.transaction() as tx:
        log = run.outbox.store.tables.attempts
        recorded = Counter(tx.connection.execute(select(log.c.outcome)).scalars())
    assert recorded == {"retry": 40}  # the log has those that failed
    assert run.ended() == {("console", "delivered"): 20, ("webhook", "failed_terminal"): 20}


@pytest.mark.proves("R16")
def test_a_scrape_tells_what_the_database_holds(run: Run) -> None:
    held = samples(run.scrape(), "outbox_messages", "channel", "status")

    assert held == {**run.ended(), ("console", "queued"): WAITING}


def test_a_scrape_tells_what_the_relay_did(run: Run) -> None:
    def claimed() -> float:
        return sum(samples(run.scrape(), "outbox_claimed_total").values())

    eventually(lambda: claimed() == 60, "20 messages to the console once and 20 to the receiver twice")
    text = run.scrape()
    passes, tasks = (samples(text, f"outbox_{name}_total")[()] for name in ("relay_passes", "delivery_tasks"))
    assert passes >= 2
    assert 6 <= tasks <= 60


def test_a_scrape_has_every_metric_that_a_run_can_have_had(run: Run) -> None:
    told = {family.name for family in text_string_to_metric_families(run.scrape())}

    only_when_it_happens = {"outbox_enqueued", "outbox_nudges", "outbox_take_refused", "outbox_released", "outbox_lease_lost",
                            "outbox_settle_delayed", "outbox_maintained"}  # fmt: skip
    expected = {family.name.removesuffix("_total") for family in (*COUNTED, *ASKED)}
    assert expected - only_when_it_happens <= told <= expected


def test_a_scrape_holds_no_target_payload_or_id(run: Run) -> None:
    text = run.scrape()

    for private in ("127.0.0.1", PAYLOAD, *(message.id for message in run.outbox.list(limit=100))):
        assert private not in text


def test_the_metrics_are_served_on_the_loopback_interface_alone(run: Run) -> None:
    process = psutil.Process(run.service.pid_of("metrics"))
    listening = [each.laddr for each in process.net_connections() if each.status == psutil.CONN_LISTEN]

    assert listening == [("127.0.0.1", run.ports["metrics"])]


def test_a_place_in_a_pool_has_one_file_whoever_takes_it(run: Run) -> None:
    files = {
        file.name.partition("_")[2].partition("@")[0] + file.name[-5:] for file in (run.service.data_dir / "metrics").iterdir()
    }

    assert files <= {f"{node}{place}.db" for node in ("node-1", "relay") for place in ("-0", "-1", "in")}


# Flower.


def test_flower_lists_what_was_delivered_by_channel_readable_and_without_a_payload(run: Run) -> None:
    listed = json.loads(run.flower("/api/tasks?limit=1000"))

    assert {task["name"] for task in listed.values()} == {"outbox.deliver.console", "outbox.deliver.webhook"}
    carried = [task for task in listed.values() if task["name"] == "outbox.deliver.console"]
    assert sum(int(task["args"].split()[0].lstrip("(")) for task in carried) == 20
    assert sum(json.loads(task["result"].replace("'", '"'))["delivered"] for task in carried) == 20
    ids = {message.id for message in run.outbox.list(limit=100)}
    assert all(any(f"first {message_id}" in task["args"] for message_id in ids) for task in listed.values())
    assert PAYLOAD not in json.dumps(listed)
    assert run.target not in json.dumps(listed)


def test_flowers_own_metrics_count_the_tasks_by_channel(run: Run) -> None:
    listed = Counter(task["name"] for task in json.loads(run.flower("/api/tasks?limit=1000")).values())

    told = samples(run.flower("/metrics", with_password=False), "flower_events_total", "task", "type")

    assert {task: count for (task, kind), count in told.items() if kind == "task-succeeded"} == listed


def test_flowers_page_of_tasks_shows_arguments_and_results(run: Run) -> None:
    page = run.flower("/tasks")

    shown = page.partition('id="tasks-table"')[2]
    assert all(column in shown for column in ("name", "state", "args", "result", "runtime"))


# Logs.


@pytest.mark.parametrize(("node", "attempts"), [("node-1", {"console": 20, "webhook": 40}), ("relay", {})])
def test_the_log_of_a_node_is_json_with_one_line_for_each_attempt(run: Run, node: str, attempts: dict[str, int]) -> None:
    log = run.service.log_of(node)
    lines = log[log.index("{") :].splitlines()  # where it runs as root, Celery complains of it first

    events = [told["outbox"] for told in map(json.loads, lines) if "outbox" in told]
    assert Counter(event["channel"] for event in events if event["event"] == "AttemptFinished") == attempts


# What is wrong is told.


def test_a_port_of_the_metrics_that_is_taken_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = Service(tmp_path / "var", metrics="yes", metrics_port=str(port))
        with closing(service):
            assert service.ends() == 1
    assert service.lines == [
        f"outbox: the metrics' port {port} cannot be used (Address already in use);"
        " set OUTBOX_METRICS_PORT to another, or OUTBOX_METRICS=no\n"
    ]


def test_an_exporter_whose_port_is_taken_says_so_in_one_line(tmp_path: Path, sqlite_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = {"data_dir": str(tmp_path), "database_url": sqlite_url, "metrics_port": str(taken.getsockname()[1])}
        with start(["workers.metrics"], settings, cwd=tmp_path, stdout=subprocess.PIPE) as process:
            said, _ = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 1
    [line] = said.splitlines()
    assert line.startswith("outbox: no metrics: ")
    assert line.endswith("Address already in use")
