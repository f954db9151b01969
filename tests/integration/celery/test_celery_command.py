"""``celery -A app outbox …``: the command line over the outbox that is installed on the application."""

import json
import os
import subprocess
import sys
import tomllib
from importlib import import_module
from typing import Any

import pytest

from outbox.cli.under_celery import outbox as subcommand
from tests.integration.celery.conftest import MakeStack
from tests.integration.celery.nodes import APPLICATION, PROJECT
from tests.integration.celery.stack import Stack

LIKE_CELERY = (
    "from celery.bin.celery import celery; from outbox.cli.under_celery import outbox; celery.add_command(outbox); celery()"
)
"""The ``celery`` command as it is where the package is installed with its entry point."""


@pytest.fixture
def stack(make_stack: MakeStack, sqlite_url: str, redis_url: str) -> Stack:
    return make_stack(sqlite_url, redis_url)


def celery(stack: Stack, *arguments: str, app: str = APPLICATION) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LIKE_CELERY, "-A", app, *arguments],
        cwd=PROJECT, env={**os.environ, **stack.settings.to_environment()}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_package_gives_celery_the_command() -> None:
    project: Any = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    module, _, attribute = project["project"]["entry-points"]["celery.commands"]["outbox"].partition(":")
    assert getattr(import_module(module), attribute) is subcommand


def test_the_relay_runs_under_celery_for_the_applications_own_outbox(stack: Stack) -> None:
    ids = stack.enqueue("bulk", 3)
    ended = celery(stack, "outbox", "relay", "--once", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["claimed"] == 3
    assert {message.status for message in stack.messages(ids)} == {"dispatched"}


def test_every_command_is_there_and_says_in_one_line_what_is_wrong(stack: Stack) -> None:
    [identity] = stack.enqueue("bulk")
    shown = celery(stack, "outbox", "list", "--json")
    assert identity in shown.stdout
    absent = celery(stack, "outbox", "show", "no-such-message")
    assert absent.returncode == 1
    assert absent.stderr.startswith("outbox: ")
    assert len(absent.stderr.splitlines()) == 1
    assert "relay" in celery(stack, "outbox", "--help").stdout


def test_an_application_without_an_outbox_is_told_so(stack: Stack) -> None:
    ended = celery(stack, "outbox", "status", app="tests.integration.celery.bare")
    assert ended.returncode == 2
    assert "no outbox is installed" in ended.stderr
