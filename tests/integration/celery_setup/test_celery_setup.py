"""pytest-celery's fixtures around our worker: in a pytest of their own, because the plugin shadows fixtures of Celery's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
SUITE = Path(__file__).with_name("suite.py")


@pytest.mark.redis
@pytest.mark.timeout(400)
def test_the_worker_passes_the_suite_of_pytest_celery(tmp_path: Path) -> None:
    options = ["-o", "addopts=--import-mode=importlib -p celery", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "its")]

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, str(SUITE)], cwd=PROJECT, capture_output=True, text=True, check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}, timeout=390,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
