"""The fixtures as a project's own tests use them, in a pytest of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.integration.documentation.blocks import code

IN_MEMORY, OWN, *_NODES = code("docs/guides/testing.md", "python")  # the others: celery_setup/test_pytest_nodes.py
SHOP = """
import pytest
from sqlalchemy.orm import Session
from outbox import Outbox


class Shop:
    def __init__(self, url):
        self.outbox = Outbox(url)
        self.outbox.upgrade_schema()

        @self.outbox.channel("chat", ordered=True)
        def send(message, attempt):
            raise AssertionError("nothing is sent in a test")

    def reply(self, target, text):
        with Session(self.outbox.store.engine) as session, session.begin():
            self.outbox.enqueue(session, "chat", target=target, payload={"text": text})


@pytest.fixture
def shop(tmp_path):
    shop = Shop(f"sqlite:///{tmp_path}/shop.db")
    yield shop
    shop.outbox.close()
"""
MORE_TESTS = """

def test_nothing_is_left_of_another_test(outbox):
    assert outbox.list() == []


def test_a_wrong_expectation_is_told(outbox, outbox_engine):
    with Session(outbox_engine) as session, session.begin():
        outbox.enqueue(session, "recorder", payload={"text": "On the way"})

    assert_enqueued(outbox, "recorder", payload={"text": "On its way"})
"""


def run_pytest(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "outbox.pytest_plugin",
        "-W",
        "error",
        "-p",
        "no:cacheprovider",
        *arguments,
    ]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # also where the plugin is installed
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=100, check=False)


def test_a_project_tests_its_messages_as_the_guide_says(tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text(IN_MEMORY + MORE_TESTS)
    (tmp_path / "test_own_outbox.py").write_text(SHOP + OWN)

    done = run_pytest(tmp_path, "-q", "--no-header")

    assert "1 failed, 3 passed" in done.stdout, done.stdout + done.stderr
    assert "- {'text': 'On its way'}" in done.stdout
    assert "+ {'text': 'On the way'}" in done.stdout
    assert "outbox/testing/asserting.py" not in done.stdout, "the failure is shown in the test, not in the kit"


def test_the_fixtures_say_what_they_are(tmp_path: Path) -> None:
    shown = run_pytest(tmp_path, "--fixtures", "-q").stdout

    for fixture in ("outbox_clock", "outbox_engine", "outbox_recorder", "outbox"):
        assert re.search(rf"^{fixture} -- ", shown, re.MULTILINE), shown
