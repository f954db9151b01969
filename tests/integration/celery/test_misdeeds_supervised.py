"""Handlers that end their process where it is the whole node, in a pool of threads: the supervisor's business."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from outbox import NewMessage, Outbox
from tests.integration.celery import adapters
from tests.integration.celery.ledger import Ledger
from tests.integration.celery.misdeeds import DEADLY
from tests.integration.celery.nodes import eventually
from tests.integration.loops.scene import enqueue, statuses
from tests.servers.supervised import Service

ENDING = sorted(DEADLY.keys() - {"closes all files"})
"""That one leaves a node which lives and can do nothing: docs/reliability.md says so."""
ATTEMPTS = dict.fromkeys(ENDING, 2) | {"never returns": 12}
"""More where one follows the other at once."""
PATIENCE_S = 120.0
CHANNELS = """
[neighbour]
kind = "scripted"
ledger = "{ledger}"
[neighbour-loop]
kind = "scripted-async"
ledger = "{ledger}"
[wild]
kind = "scripted"
ledger = "{ledger}"
timeout = 1
backoff = [20]
[wild-loop]
kind = "scripted-async"
ledger = "{ledger}"
timeout = 1
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def service(tmp_path: Path, sqlite_url: str, ledger: Ledger) -> Iterator[Service]:
    adapters.install(tmp_path)  # where the service's processes are at home
    (tmp_path / "channels.toml").write_text(CHANNELS.format(ledger=ledger.path))
    settings = {"database_url": sqlite_url, "channels": str(tmp_path / "channels.toml"), "maintain_interval_s": "0.5"}
    with closing(Service(tmp_path / "var", pool="threads", nodes="1", **settings)) as running:
        running.says("running")
        yield running


@pytest.fixture
def outbox(service: Service, sqlite_url: str) -> Iterator[Outbox]:
    with closing(Outbox(sqlite_url)) as outbox:
        yield outbox


@pytest.mark.long_on("reads from nowhere", "aborts", "kills itself", "terminates itself")
@pytest.mark.parametrize("misdeed", ENDING)
@pytest.mark.proves("T12")
def test_a_node_that_a_handler_ends_comes_back_and_sends_the_neighbours_before_the_handler_has_had_its_attempts(
    service: Service, ledger: Ledger, outbox: Outbox, misdeed: str
) -> None:
    [hostile] = set_loose(outbox, "wild", misdeed)
    eventually(lambda: starts(service) > 1, "the node does not come back", patience_s=PATIENCE_S)

    send_neighbours_meanwhile(outbox, ledger, hostile)

    ends_after_its_attempts(outbox, ledger, hostile, misdeed)
    eventually(lambda: starts(service) > ATTEMPTS[misdeed], "the node does not come back", patience_s=PATIENCE_S)


@pytest.mark.proves("T12")
def test_a_handler_that_blocks_the_event_loop_of_its_node_holds_up_neighbours_for_less_than_its_attempts(
    service: Service, ledger: Ledger, outbox: Outbox
) -> None:
    [hostile] = set_loose(outbox, "wild-loop", "never returns")
    eventually(lambda: ledger.arrivals(hostile), "nothing wild has begun", patience_s=PATIENCE_S)

    send_neighbours_meanwhile(outbox, ledger, hostile)

    ends_after_its_attempts(outbox, ledger, hostile, "never returns")
    assert starts(service) == 1


def set_loose(outbox: Outbox, channel: str, misdeed: str) -> list[str]:
    attempts = ATTEMPTS[misdeed]
    script = {"misdeed": misdeed, "on": list(range(1, attempts + 1))}
    return enqueue(outbox, NewMessage(channel=channel, payload=script, max_attempts=attempts))


def starts(service: Service) -> int:
    return sum("node-1 started" in line for line in list(service.lines))


def send_neighbours_meanwhile(outbox: Outbox, ledger: Ledger, hostile: str) -> None:
    ids = enqueue(outbox, *[NewMessage(channel=name) for name in ("neighbour", "neighbour-loop") for _ in range(20)])
    eventually(lambda: set(statuses(outbox, ids)) == {"delivered"}, "the neighbours are not sent", patience_s=PATIENCE_S)
    assert outbox.get(hostile).completed_at is None
    assert {ledger.counts()[one] for one in ids} == {1}


def ends_after_its_attempts(outbox: Outbox, ledger: Ledger, hostile: str, misdeed: str) -> None:
    eventually(lambda: outbox.get(hostile).completed_at, "no end of the wild one", patience_s=PATIENCE_S)
    assert outbox.get(hostile).terminal_reason == "attempts used up"
    assert len(ledger.arrivals(hostile)) == ATTEMPTS[misdeed]
