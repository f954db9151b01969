"""The Django suites on the newest Django of the lock, where the Python that runs the tests is too old for it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.django.conftest import PROJECT, Manage

NEWEST_NEEDS = (3, 12)

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.version_info >= NEWEST_NEEDS, reason="this Python has the newest Django itself: see test_suite.py"),
]


def interpreters() -> Iterator[str]:
    """Every newer Python of this machine: on the path, and of pyenv."""
    yield from filter(None, (shutil.which(f"python3.{minor}") for minor in range(NEWEST_NEEDS[1], 16)))
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from map(str, sorted(versions.glob("3.1[2-9].*/bin/python")))


def works(python: str) -> bool:
    code = f"import sys; sys.exit(sys.version_info < {NEWEST_NEEDS})"
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with the newest Django of the lock, and what its suites need."""
    base = next(filter(works, interpreters()), None)
    if base is None:
        pytest.skip("no Python 3.12 or newer here, beside the one that runs the tests")
    environment = tmp_path_factory.mktemp("newest") / "environment"
    uv, python = [sys.executable, "-m", "uv"], str(environment / "bin" / "python")
    subprocess.run([*uv, "venv", "--quiet", "--python", base, environment], check=True)
    extras = [f"--extra={extra}" for extra in ("celery", "django", "postgres", "webhook")]
    wanted = ["--requirement", "pyproject.toml", *extras, "aiosmtpd", "psutil", "pytest"]
    install = [*uv, "pip", "install", "--quiet", "--python", python, "--constraint", "requirements.lock"]
    subprocess.run([*install, *wanted], cwd=PROJECT, check=True)
    return python


def test_every_suite_passes_on_the_newest_django_of_the_lock(newest: str, sqlite_url: str) -> None:
    manage = Manage(sqlite_url, python=newest)
    versions = re.findall(r"^django==([0-9.]+)", (PROJECT / "requirements.lock").read_text(), re.MULTILINE)
    assert manage("version").strip() == max(versions, key=lambda version: [int(part) for part in version.split(".")])
    suites = sorted(path.stem for path in (Path(__file__).parent / "suite").glob("[a-z]*.py"))
    told = manage("test", *(f"tests.integration.django.suite.{suite}" for suite in suites))
    assert "skipped" not in told, told
    ran = re.search(r"Ran (\d+) tests", told)
    assert ran is not None, told
    assert int(ran[1]) >= 80
