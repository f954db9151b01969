"""A pytest of its own: pytest-celery's plugin shadows fixtures of Celery's, and the project's own tests keep it out."""

import os
import subprocess
import sys
from pathlib import Path

PATIENCE_S = 390


def run_pytest(directory: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run it in a directory, with none of what this pytest says to its own."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments], cwd=directory, capture_output=True,
        env={**{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}, **environment},
        text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
