"""The guide's application runs as it stands, and the guide tells what there is."""

import re
from dataclasses import fields
from typing import Any

import pytest
from flask import Flask

from outbox.integrations.flask.configuration import Configuration
from outbox.testing import assert_enqueued
from tests.integration.flask.conftest import outbox_of
from tests.servers.supervised import PROJECT

GUIDE = (PROJECT / "docs/guides/flask.md").read_text()


def block(first_words: str) -> str:
    """The Python block of the guide that begins with these words."""
    [code] = re.findall(rf"^```python\n({re.escape(first_words)}.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    return str(code)


@pytest.fixture
def shop() -> dict[str, Any]:
    """The names of the guide's module."""
    names: dict[str, Any] = {"__name__": "shop"}
    exec(compile(block("# shop.py"), "shop.py", "exec"), names)
    return names


@pytest.mark.parametrize("url", ["sqlite://", None], ids=["in memory", "in a file"])
def test_its_application_packs_what_was_ordered_as_its_test_says(
    shop: dict[str, Any], sqlite_url: str, url: str | None
) -> None:
    app: Flask = shop["create_app"](SQLALCHEMY_DATABASE_URI=url or sqlite_url)
    app.extensions["celery"].conf.task_always_eager = True
    outbox_of(app).upgrade_schema()
    with app.app_context():
        shop["db"].create_all()
    names = {**shop, "assert_enqueued": assert_enqueued}
    exec(compile(block("def test_an_order_is_packed"), "test_shop.py", "exec"), names)
    names["test_an_order_is_packed"](app)
    outbox_of(app).close()
    with app.app_context():
        shop["db"].engine.dispose()


def test_it_tells_every_key() -> None:
    table = GUIDE.split("\n## Configuration\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `OUTBOX_(\w+)` \|", table, re.MULTILINE)) == {one.name.upper() for one in fields(Configuration)}
