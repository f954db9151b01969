"""A pytest of its own: pytest-celery's plugin shadows fixtures of Celery's, and the project's own tests keep it out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PATIENCE_S = 390
STACKS_AFTER_S = 100
"""Where a test of the inner pytest takes so long, its output says where it stands."""
PLUGINS = ("docker_tools", "celery", "outbox")
"""The entry points that an application has which installed pytest-celery and celery-outbox; the others only cost time."""


def run_pytest(directory: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run it in a directory, with none of what this pytest says to its own."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "OUTBOX_TEST_DOCKER"))}
    plugins = [option for plugin in PLUGINS for option in ("-p", plugin)]
    options = ["-p", "no:cacheprovider", "-o", f"faulthandler_timeout={STACKS_AFTER_S}"]
    try:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *options, *plugins, *arguments], cwd=directory, check=False, text=True,
            env={**outer, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment}, capture_output=True, timeout=PATIENCE_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"{late}\n" + b"".join(filter(None, (late.stdout, late.stderr))).decode())
