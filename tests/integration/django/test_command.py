"""``manage.py outbox`` is the ``outbox`` command, on the outbox of the settings."""

import json
from pathlib import Path

import pytest
from click import Group

from outbox import Outbox
from outbox.cli.application import application
from tests.integration.django.conftest import Manage


@pytest.fixture
def shop(sqlite_outbox_url: str) -> Manage:
    """The project with an empty outbox."""
    return Manage(sqlite_outbox_url)


@pytest.mark.long_on("sqlite")
def test_the_verbs_of_the_command_work_on_djangos_database(outbox: Outbox, outbox_url: str) -> None:
    shop = Manage(outbox_url)
    with outbox.store.engine.begin() as connection:
        message_id = outbox.enqueue(connection, "broken").id
    assert "1 failed_terminal" in shop("outbox", "relay", "--inline", "--once")
    assert "1 message retried" in shop("outbox", "retry", message_id, "--reason", "address corrected")
    message = outbox.get(message_id)
    assert (message.status, message.last_error) == ("queued", "no such address")


def test_its_exit_status_and_its_one_line_of_complaint_are_the_commands(shop: Manage, tmp_path: Path) -> None:
    assert "outbox: no message 'nobody' is kept\n" in shop("outbox", "show", "nobody", status=1)
    assert "brings its own settings" in shop("outbox", "--database", "sqlite://", "status", status=2)
    told = shop("outbox", "status", status=2, OUTBOX={"CHANNELS": str(tmp_path / "nothing.toml")})
    assert told.startswith("outbox: ")
    assert "nothing.toml cannot be read" in told


def test_its_help_is_the_commands(shop: Manage) -> None:
    for told in (shop("outbox", "--settings", "tests.integration.django.settings", "--help"), shop("outbox")):
        assert "manage.py outbox [OPTIONS]" in told
        assert isinstance(application, Group)
        assert all(verb in told for verb in application.commands)


def test_it_can_be_called_from_python(shop: Manage) -> None:
    called = "from django.core.management import call_command; call_command('outbox', 'status', '--json'); print('went on')"
    told = shop.shell(called)
    assert json.loads(told.removesuffix("went on\n")) == {"channels": [], "gates": []}
