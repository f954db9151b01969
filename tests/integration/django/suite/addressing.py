"""Where the relay's own connections go: where the alias leads, whenever they are opened. Run by test_suite.py."""

import asyncio
from typing import Any
from unittest.mock import patch

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, connections, transaction
from django.db.utils import ConnectionHandler
from django.test import SimpleTestCase, TransactionTestCase
from sqlalchemy import make_url

from outbox.integrations.django import database, enqueue, outbox
from outbox.store.sqlite import in_memory

POSTGRESQL = "django.db.backends.postgresql"
SQLITE = "django.db.backends.sqlite3"


def address(**given: Any) -> str:
    """The URL of an alias with those settings."""
    with patch.object(database, "connections", ConnectionHandler({"default": given})):
        return database.url_of("default").render_as_string(hide_password=False)


class Addresses(SimpleTestCase):
    def test_a_server_with_a_difficult_password(self) -> None:
        told = make_url(address(ENGINE=POSTGRESQL, NAME="shop", USER="app", PASSWORD="p@ss/w:rd", HOST="db", PORT="5433"))
        assert told.get_backend_name() == "postgresql"
        assert (told.username, told.password, told.host, told.port, told.database) == ("app", "p@ss/w:rd", "db", 5433, "shop")

    def test_options_of_the_server_are_kept_and_djangos_own_are_not(self) -> None:
        options = {
            "sslmode": "require", "pool": {"min_size": 2}, "isolation_level": 3, "server_side_binding": True,
            "assume_role": "writer", "options": "-c statement_timeout=5000",
        }  # fmt: skip
        told = make_url(address(ENGINE=POSTGRESQL, NAME="shop", HOST="/run/postgresql", OPTIONS=options))
        assert dict(told.query) == {
            "sslmode": "require", "options": "-c statement_timeout=5000 -c role=writer", "host": "/run/postgresql",
        }  # fmt: skip

    def test_a_service_of_libpq(self) -> None:
        told = make_url(address(ENGINE=POSTGRESQL, NAME="", OPTIONS={"service": "shop", "passfile": ".pgpass"}))
        assert (told.database, dict(told.query)) == (None, {"service": "shop", "passfile": ".pgpass"})

    def test_a_file_and_a_file_uri(self) -> None:
        assert address(ENGINE=SQLITE, NAME="/srv/shop.db") == "sqlite:////srv/shop.db"
        told = make_url(address(ENGINE=SQLITE, NAME="file:/srv/shop.db?cache=private"))
        assert (told.database, dict(told.query)) == ("file:/srv/shop.db", {"cache": "private", "uri": "true"})
        assert not in_memory(told)

    def test_an_address_is_taken_as_it_is_when_a_connection_is_opened(self) -> None:
        here = outbox()
        made_for = here.store.engine.url
        with patch.dict(connection.settings_dict, {"NAME": "nowhere"}):
            assert database.url_of("default") != made_for
            arguments: list[Any] = [made_for.database]
            options: dict[str, Any] = {"dbname": made_for.database, "options": "kept"}
            here.store.engine.dialect.dispatch.do_connect(here.store.engine.dialect, None, arguments, options)
        where = arguments[0] if connection.vendor == "sqlite" else options["dbname"]
        assert str(where).endswith("nowhere")
        assert options["options"] == "kept"


class Connections(TransactionTestCase):
    def test_a_celery_task_joins_the_block_of_an_alias(self) -> None:
        with transaction.atomic():
            queued = outbox().send_task("default", "shop.tasks.pack", [1], channel="warehouse")
        assert outbox().list()[0].id == queued.message_ids[0]

    def test_asynchronous_code_is_told_that_it_cannot(self) -> None:
        async def view() -> None:
            enqueue("warehouse")

        with pytest.raises(SynchronousOnlyOperation):
            asyncio.run(view())

    def test_transactions_that_the_project_manages_by_hand_are_joined(self) -> None:
        transaction.set_autocommit(False)
        try:
            enqueue("warehouse")
            transaction.rollback()
            enqueue("warehouse", payload="kept")
            transaction.commit()
        finally:
            transaction.set_autocommit(True)
        assert [message.payload for message in outbox().list()] == ["kept"]

    def test_a_lost_connection_is_a_typed_error_or_djangos_own(self) -> None:
        with pytest.raises(Exception, match=r"(?i)closed|connection"), transaction.atomic():  # noqa: PT012
            assert connections["default"].connection is not None
            connections["default"].connection.close()
            enqueue("warehouse")
