"""A small Flask application with Flask-SQLAlchemy, made anew for each test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from outbox import Outbox
from outbox.integrations.flask import FlaskOutbox

MakeApp = Callable[..., Flask]


class Shop:
    """The extensions that a module of an application would hold, and one model."""

    def __init__(self) -> None:
        self.database = database = SQLAlchemy()
        self.outbox = FlaskOutbox()

        class Order(database.Model):  # type: ignore[misc, name-defined]
            __tablename__ = "flask_order"
            number: Mapped[int] = mapped_column(primary_key=True)
            packed: Mapped[bool] = mapped_column(default=False)

        self.Order = Order


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def make_app(shop: Shop, database_url: str) -> Iterator[MakeApp]:
    """The application factory: SQLite, then PostgreSQL; keyword arguments are its configuration."""
    made: list[Flask] = []

    def create_app(**config: Any) -> Flask:
        app = Flask("shop")
        app.config.from_mapping({"SQLALCHEMY_DATABASE_URI": database_url, **config})
        shop.database.init_app(app)
        outbox = shop.outbox.init_app(app)
        made.append(app)
        outbox.upgrade_schema()
        with app.app_context():
            shop.database.create_all()
        return app

    yield create_app
    for app in made:
        outbox_of(app).close()
        with app.app_context():
            shop.database.drop_all()
            shop.database.engine.dispose()


def outbox_of(app: Flask) -> Outbox:
    outbox: Outbox = app.extensions["outbox"]
    return outbox
