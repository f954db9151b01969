"""pytest-celery's own `celery_setup` around a worker with an outbox; `test_celery_setup.py` runs it with the plugin on.

Broker and worker are those of :mod:`outbox.integrations.celery.pytest_nodes`, which the run loads with ``-p``.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_celery import CeleryBrokerCluster, CeleryTestSetup

from outbox import Outbox
from outbox.integrations.celery.connecting import relay_over
from outbox.relay import Relay
from tests.integration.celery.application import Settings, create
from tests.integration.celery.ledger import Ledger
from tests.integration.celery.nodes import APPLICATION, eventually
from tests.integration.celery.stack import WITHOUT_CHATTER


@pytest.fixture
def settings(celery_broker_cluster: CeleryBrokerCluster, sqlite_url: str, tmp_path: Path) -> Settings:
    (broker,) = celery_broker_cluster
    return Settings(sqlite_url, broker.config()["host_url"], str(tmp_path / "ledger"), lease_margin_s=0.5)


@pytest.fixture
def outbox(settings: Settings) -> Iterator[Outbox]:
    outbox = create(settings).outbox
    outbox.on_commit = None
    outbox.upgrade_schema()
    yield outbox
    outbox.close()


@pytest.fixture
def outbox_worker_app() -> str:
    return APPLICATION


@pytest.fixture
def outbox_worker_arguments() -> list[str]:
    """No beat: the test relays."""
    return ["--pool=prefork", "--concurrency=2", *WITHOUT_CHATTER]


@pytest.fixture
def outbox_worker_environment(settings: Settings, outbox: Outbox) -> dict[str, str]:
    return settings.to_environment()


@pytest.fixture
def relay(celery_setup: CeleryTestSetup, outbox: Outbox) -> Relay:
    """Publishes through the plugin's application."""
    assert celery_setup.ready(control=True)
    return relay_over(celery_setup.app, outbox)


def enqueue(outbox: Outbox, channel: str = "bulk", **payload: object) -> str:
    with outbox.store.transaction() as tx:
        return outbox.enqueue(tx.connection, channel, payload=payload).id


def relay_until(relay: Relay, outbox: Outbox, message_id: str, status: str) -> None:
    def reached() -> bool:
        outbox.maintain_once()
        relay.run_once()
        return outbox.get(message_id).status == status

    eventually(reached, lambda: f"{status}, and it is {outbox.get(message_id).status}")


def test_what_is_committed_is_delivered_by_the_worker(celery_setup: CeleryTestSetup, relay: Relay, outbox: Outbox) -> None:
    message_id = enqueue(outbox)

    relay_until(relay, outbox, message_id, "delivered")

    celery_setup.worker.assert_log_exists(message_id)


def test_what_a_killed_worker_was_sending_is_sent_again_by_its_successor(
    celery_setup: CeleryTestSetup, relay: Relay, outbox: Outbox, settings: Settings, tmp_path: Path
) -> None:
    ledger = Ledger(Path(settings.ledger))
    message_id = enqueue(outbox, "brief", wait_for=str(tmp_path / "never"))
    relay.run_once()
    eventually(lambda: ledger.arrivals(message_id), "the first send")

    celery_setup.worker.kill()
    celery_setup.worker.restart()
    relay_until(relay, outbox, message_id, "delivered")

    assert [arrival.attempt for arrival in ledger.arrivals(message_id)] == [1, 2]
    assert len({arrival.key for arrival in ledger.arrivals(message_id)}) == 1


def test_a_broker_that_was_away_costs_no_message_and_no_attempt(
    celery_setup: CeleryTestSetup, relay: Relay, outbox: Outbox
) -> None:
    celery_setup.broker.kill()
    message_id = enqueue(outbox)
    relay.run_once()
    assert outbox.get(message_id).attempt_count == 0

    celery_setup.broker.restart()
    relay_until(relay, outbox, message_id, "delivered")

    assert outbox.get(message_id).attempt_count == 1
