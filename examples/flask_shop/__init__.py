"""A Flask shop whose orders, packing slips and entries in the books are committed together.

``flask --app examples.flask_shop`` finds the factory here.
"""

import os
from typing import Any

from flask import Flask

from examples.flask_shop.extensions import database, outbox
from examples.flask_shop.orders import orders
from examples.flask_shop.tasks import connect_celery


def create_app(config: dict[str, Any] | None = None) -> Flask:
    """The shop, on the database, broker and bookkeeping that the environment names; ``config`` wins, as in tests."""
    app = Flask(__name__)
    app.config.from_mapping(
        SQLALCHEMY_DATABASE_URI=os.environ.get("SHOP_DATABASE_URL", "sqlite:///shop.db"),
        CELERY={"broker_url": os.environ.get("SHOP_BROKER_URL", "redis://localhost:6379/0")},
        OUTBOX_CHANNELS={"books": _books(os.environ.get("SHOP_BOOKS_URL"))},
    )
    app.config.from_mapping(config or {})
    database.init_app(app)
    outbox.init_app(app)
    connect_celery(app)
    app.register_blueprint(orders)
    with app.app_context():
        database.create_all()
    return app


def _books(url: str | None) -> dict[str, Any]:
    """The channel to the bookkeeping: a signed webhook, to this machine if need be; without a URL, the worker's terminal."""
    if url is None:
        return {"kind": "console"}
    here = {"allow_hosts": ["127.0.0.1"], "allow_http": True}
    return {"kind": "webhook", "url": url, "secret": os.environ["SHOP_BOOKS_SECRET"], **here}
