"""Django in processes of its own: its settings are one for a process, and other tests shall not meet them."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Manage:
    """``manage.py`` of the project under test, on one database."""

    database_url: str
    settings: dict[str, Any] = field(default_factory=dict)
    python: str = sys.executable

    def __call__(self, *arguments: str, status: int = 0, **settings: Any) -> str:
        """Run a command, with settings that differ; it must end with ``status``. Returns what it printed."""
        done = subprocess.run(
            [self.python, "-W", "error", "-m", "django", *arguments],
            cwd=PROJECT, env=self.environment(**settings), capture_output=True, text=True, check=False, timeout=280,
        )  # fmt: skip
        assert done.returncode == status, f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def environment(self, **settings: Any) -> dict[str, str]:
        """What tells a process of the project its database and settings."""
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.integration.django.settings",
            "DJANGO_TEST_DATABASE_URL": self.database_url,
            "DJANGO_TEST_SETTINGS": json.dumps({**self.settings, **settings}),
        }

    def shell(self, code: str, **settings: Any) -> str:
        """Run Python lines in the project."""
        return self("shell", "--no-imports", "-c", code, **settings)


@pytest.fixture
def manage(database_url: str) -> Manage:
    """The project on a new, empty database: SQLite, then PostgreSQL."""
    return Manage(database_url)
