"""pytest-celery's fixtures on processes of this machine, for the tests of applications: no container engine is needed.

``pytest_plugins = ["outbox.integrations.celery.pytest_nodes"]`` in the ``conftest.py`` at the root of the tests makes
pytest-celery's ``celery_setup`` a real Valkey and a real worker of the application, which says what its worker is by
overriding the fixtures ``outbox_worker_app``, ``outbox_worker_arguments`` and ``outbox_worker_environment``.

With ``OUTBOX_TEST_DOCKER=1`` in the environment Valkey is pytest-celery's container instead; the worker stays a process.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from pytest_celery import CeleryBackendCluster, CeleryBrokerCluster, RedisTestBroker

from outbox.errors import ConfigurationError
from outbox.integrations.celery.local_nodes import LocalRedis, LocalWorker

if os.environ.get("OUTBOX_TEST_DOCKER") != "1":

    @pytest.fixture
    def default_redis_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRedis]:
        """The broker: a Valkey or Redis for this test alone."""
        yield from _redis("broker", tmp_path_factory.mktemp("broker"))

    @pytest.fixture
    def default_redis_backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRedis]:
        """Where a test wants results: another one."""
        yield from _redis("backend", tmp_path_factory.mktemp("backend"))


@pytest.fixture
def celery_broker_cluster(celery_redis_broker: RedisTestBroker) -> Iterator[CeleryBrokerCluster]:
    """Redis alone; by itself the plugin runs each test on RabbitMQ as well."""
    cluster = CeleryBrokerCluster(celery_redis_broker)
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_backend_cluster() -> None:
    """No results: what became of a message is in the outbox. A test that wants them returns a cluster here."""


@pytest.fixture
def outbox_worker_app() -> str:
    """What ``celery -A`` is told: the module of the application's Celery app. Each application overrides it."""
    raise ConfigurationError('which Celery app? Override the fixture outbox_worker_app; it returns what follows "celery -A"')


@pytest.fixture
def outbox_worker_arguments(tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """What follows ``celery -A … worker``: two processes, and the beat that relays. Override it for other queues or pools."""
    return ["--concurrency=2", "--beat", f"--schedule={tmp_path_factory.mktemp('beat') / 'schedule'}"]


@pytest.fixture
def outbox_worker_environment() -> Mapping[str, str]:
    """What is added to the worker's environment, such as the URL of the test's database. Override it.

    ``CELERY_BROKER_URL``, which Celery prefers to what the app says, leads to the test's broker without further ado.
    """
    return {}


@pytest.fixture
def default_worker_container(
    outbox_worker_app: str,
    outbox_worker_arguments: Sequence[str],
    outbox_worker_environment: Mapping[str, str],
    celery_broker_cluster: CeleryBrokerCluster,
    celery_backend_cluster: CeleryBackendCluster | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LocalWorker]:
    """The application's own worker, in place of the plugin's image."""
    urls = {"CELERY_BROKER_URL": celery_broker_cluster, "CELERY_RESULT_BACKEND": celery_backend_cluster}
    environment = {name: ";".join(cluster.config()["host_urls"]) for name, cluster in urls.items() if cluster is not None}
    worker = LocalWorker(
        outbox_worker_app,
        outbox_worker_arguments,
        tmp_path_factory.mktemp("worker"),
        {**environment, **outbox_worker_environment},
    )
    try:
        worker.ready()
        yield worker
    finally:
        worker.close()


def _redis(name: str, directory: Path) -> Iterator[LocalRedis]:
    server = LocalRedis(name, directory)
    try:
        server.ready()
        yield server
    finally:
        server.close()
