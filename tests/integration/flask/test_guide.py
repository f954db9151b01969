"""The guide's application runs as it stands, and the guide tells what there is."""

import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from outbox.integrations.flask.configuration import Configuration
from outbox.testing import assert_enqueued
from tests.integration.documentation.blocks import code
from tests.integration.flask.conftest import outbox_of
from tests.servers.supervised import PROJECT

GUIDE = (PROJECT / "docs/guides/flask.md").read_text()
SHOP, MIGRATIONS, DASHBOARD, TEST = code("docs/guides/flask.md", "python")


@pytest.fixture
def shop() -> dict[str, Any]:
    """The names of the guide's module."""
    names: dict[str, Any] = {"__name__": "shop"}
    exec(compile(SHOP, "shop.py", "exec"), names)
    return names


@pytest.fixture(params=["sqlite://", None], ids=["in memory", "in a file"])
def app(request: pytest.FixtureRequest, shop: dict[str, Any], sqlite_url: str) -> Iterator[Flask]:
    """Its application, with its tables."""
    app: Flask = shop["create_app"](SQLALCHEMY_DATABASE_URI=request.param or sqlite_url, SECRET_KEY="only for tests")
    app.extensions["celery"].conf.task_always_eager = True
    outbox_of(app).upgrade_schema()
    with app.app_context():
        shop["db"].create_all()
    yield app
    outbox_of(app).close()
    with app.app_context():
        shop["db"].engine.dispose()


def test_its_application_packs_what_was_ordered_as_its_test_says(shop: dict[str, Any], app: Flask) -> None:
    names = {**shop, "assert_enqueued": assert_enqueued}
    exec(compile(TEST, "test_shop.py", "exec"), names)
    names["test_an_order_is_packed"](app)


def test_its_dashboard_lets_in_whom_flask_login_knows(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    somebody = SimpleNamespace(name="ada", is_authenticated=True)
    monkeypatch.setitem(sys.modules, "flask_login", SimpleNamespace(current_user=somebody))  # which is not installed
    exec(compile(DASHBOARD, "dashboard.py", "exec"), {"app": app})
    assert app.test_client().get("/outbox/").status_code == 200
    somebody.is_authenticated = False
    assert app.test_client().get("/outbox/").location.startswith("/login")


def test_its_filter_keeps_alembic_away_from_the_outbox_alone(shop: dict[str, Any], app: Flask) -> None:
    told: dict[str, Any] = {}
    exec(MIGRATIONS, {"app": app, "db": shop["db"], "Migrate": lambda app, db, **options: told.update(options)})
    tables = outbox_of(app).store.tables.metadata.tables
    assert tables
    assert not any(told["include_name"](name, "table", {}) for name in tables)
    assert told["include_name"](shop["Order"].__tablename__, "table", {})


def test_it_tells_every_key() -> None:
    table = GUIDE.split("\n## Configuration\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `OUTBOX_(\w+)` \|", table, re.MULTILINE)) == {one.name.upper() for one in fields(Configuration)}
