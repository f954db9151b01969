"""pytest-celery's fixtures around our worker."""

from pathlib import Path

import pytest

from tests.integration.celery_setup.running import run_pytest

PROJECT = Path(__file__).parents[3]
SUITE = Path(__file__).with_name("suite.py")


@pytest.mark.redis
@pytest.mark.timeout(400)
def test_the_worker_passes_the_suite_of_pytest_celery(tmp_path: Path) -> None:
    addopts = "--import-mode=importlib -p celery -p outbox.integrations.celery.pytest_nodes"

    imported = "ignore:Module already imported so cannot be rewritten"  # by our other plugin
    options = ["-o", f"addopts={addopts}", "-W", imported, "--basetemp", str(tmp_path / "its")]
    done = run_pytest(PROJECT, *options, str(SUITE), PYTEST_DISABLE_PLUGIN_AUTOLOAD="")  # the project's options are plugins'

    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
