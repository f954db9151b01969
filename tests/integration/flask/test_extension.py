"""The extension in an application: ``db.session``, a factory, configuration, channels in the application's context."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask, current_app
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session

from outbox import Attempt, Message, NewMessage
from outbox.channels.console import Console
from outbox.errors import ConfigurationError, TransactionError
from outbox.integrations.flask import FlaskOutbox
from tests.integration.flask.conftest import MakeApp, Shop, outbox_of
from tests.servers.supervised import PROJECT


@pytest.mark.proves("R1")
def test_a_message_shares_the_fate_of_what_db_session_writes(shop: Shop, make_app: MakeApp) -> None:
    app = make_app()
    with app.app_context():
        shop.database.session.add(shop.Order())
        shop.outbox.enqueue("warehouse", payload={"order": 1})
        shop.database.session.rollback()
        assert outbox_of(app).list() == []
        shop.database.session.add(shop.Order())
        queued = shop.outbox.enqueue("warehouse", payload={"order": 2})
        shop.database.session.commit()
        assert [message.id for message in outbox_of(app).list()] == [queued.id]
        assert shop.database.session.scalar(select(func.count()).select_from(shop.Order)) == 1


def test_many_replies_and_tasks_join_db_session_too(shop: Shop, make_app: MakeApp) -> None:
    app = make_app()
    with app.app_context():
        shop.outbox.enqueue_many([NewMessage(channel="a"), NewMessage(channel="b")])
        shop.outbox.enqueue_reply("chat", target="42", parts=["one", "two"])
        shop.outbox.send_task("shop.tasks.add", [1, 2])
        assert outbox_of(app).list() == []
        shop.database.session.commit()
    assert sorted(message.channel for message in outbox_of(app).list()) == ["a", "b", "celery", "chat", "chat"]


def test_a_request_that_dies_after_its_enqueue_leaves_nothing(shop: Shop, make_app: MakeApp) -> None:
    app = make_app()

    @app.post("/orders")
    def place() -> str:
        shop.outbox.enqueue("warehouse")
        raise RuntimeError("the request dies")

    assert app.test_client().post("/orders").status_code == 500
    assert outbox_of(app).list() == []


def test_functions_are_called_in_the_context_of_their_application(shop: Shop, make_app: MakeApp) -> None:
    @shop.outbox.channel("warehouse")
    def pack(message: Message, attempt: Attempt) -> None:
        shop.database.session.get_one(shop.Order, message.payload["order"]).packed = True
        shop.database.session.commit()

    @shop.outbox.channel("mail", timeout=20)
    async def mail(message: Message, attempt: Attempt) -> None:
        await asyncio.sleep(0)
        assert current_app.name == "shop"

    app = make_app()
    with app.app_context():
        order = shop.Order()
        shop.database.session.add(order)
        shop.database.session.flush()
        shop.outbox.enqueue("warehouse", payload={"order": order.number})
        shop.outbox.enqueue("mail")
        shop.database.session.commit()
    assert outbox_of(app).drain() == 2
    assert [message.status for message in outbox_of(app).list()] == ["delivered", "delivered"]
    with app.app_context():
        assert shop.database.session.scalars(select(shop.Order.packed)).all() == [True]


def test_each_application_of_a_factory_has_an_outbox_and_the_channels_of_the_module(sqlite_url: str, shop: Shop) -> None:
    apps = [Flask("one"), Flask("two")]
    for app in apps:
        app.config["SQLALCHEMY_DATABASE_URI"] = f"{sqlite_url}.{app.name}"
        shop.database.init_app(app)
        shop.outbox.init_app(app)
    shop.outbox.register(Console())  # whoever comes late is heard as well
    one, two = map(outbox_of, apps)
    assert one is not two
    assert [channel.name for channel in one.channels] == [channel.name for channel in two.channels] == ["console"]
    with apps[1].app_context():
        assert shop.outbox.current is two
    with pytest.raises(ConfigurationError, match="'one' has an outbox already"):
        shop.outbox.init_app(apps[0])


def test_the_configuration_is_read_from_the_application(make_app: MakeApp) -> None:
    app = make_app(
        OUTBOX_TABLE="shop_outbox",
        OUTBOX_CHANNELS={"terminal": {"kind": "console", "max_attempts": 3}},
        OUTBOX_PAYLOAD_LIMIT=100,
        OUTBOX_RETENTION={"delivered_ms": 1, "failed_ms": 2},
        OUTBOX_LOG_SUCCESSES=True,
    )
    outbox = outbox_of(app)
    assert outbox.store.tables.messages.name == "shop_outbox"
    assert outbox.channels.get("terminal").max_attempts == 3
    assert outbox.preparer.payload_limit == 100


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"OUTBOX_TABEL": "x"}, "no key 'OUTBOX_TABEL'.*OUTBOX_TABLE"),
        ({"OUTBOX_TABLE": "no such name"}, "OUTBOX_TABLE must be a name"),
        ({"OUTBOX_PAYLOAD_LIMIT": True}, "OUTBOX_PAYLOAD_LIMIT must be of type int"),
        ({"OUTBOX_CHANNELS": ["webhook"]}, "OUTBOX_CHANNELS must be the path"),
        ({"OUTBOX_CHANNELS": {"webhok": {}}}, "no adapter 'webhok'"),
        ({"OUTBOX_RETENTION": {"delivered_ms": 2, "failed_ms": 1}}, "OUTBOX_RETENTION: failures are kept"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(
    shop: Shop, sqlite_url: str, config: dict[str, object], complaint: str
) -> None:
    app = Flask("shop")
    app.config.from_mapping({"SQLALCHEMY_DATABASE_URI": sqlite_url, **config})
    shop.database.init_app(app)
    with pytest.raises(ConfigurationError, match=complaint):
        shop.outbox.init_app(app)


def test_an_application_without_flask_sqlalchemy_gives_its_engine_and_names_its_session(tmp_path: Path) -> None:
    app = Flask("shop")
    with pytest.raises(ConfigurationError, match="no database is known"):
        FlaskOutbox(app)
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    outbox = FlaskOutbox(app, engine=engine)
    outbox_of(app).upgrade_schema()
    with app.app_context():
        with pytest.raises(TransactionError, match="session="):
            outbox.enqueue("warehouse")
        with Session(engine) as session, session.begin():
            outbox.enqueue("warehouse", session=session)
    assert len(outbox_of(app).list()) == 1
    outbox_of(app).close()
    engine.dispose()


def test_an_application_that_was_not_initialised_is_told_so(shop: Shop) -> None:
    app = Flask("shop")
    with app.app_context(), pytest.raises(ConfigurationError, match="'shop' has no outbox"):
        shop.outbox.enqueue("warehouse")


def test_an_application_needs_nothing_of_the_command_line_or_of_the_workers() -> None:
    missing = "import sys; sys.modules.update(dict.fromkeys(['celery', 'dotenv', 'flask_sqlalchemy', 'humanize', 'rich']))"
    subprocess.run([sys.executable, "-c", f"{missing}; import outbox.integrations.flask"], check=True, cwd=PROJECT)
