"""What the channel ``celery`` makes of brokers and applications of all kinds, published from the test's own process."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery, chain, chord, group
from celery.signals import before_task_publish
from kombu import Exchange, Queue, pools
from sqlalchemy import create_engine, event
from sqlalchemy.orm import Session

from outbox import Channel, Message, Outbox
from outbox.errors import ConfigurationError, InvalidMessage, UnknownChannel
from outbox.integrations.celery import CeleryTasks, DurableTask, install, publishing
from outbox.lifecycle import Status
from outbox.tasks.calls import QueuedTask
from tests.servers.valkey import OwnValkeyServer

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(f"sqlite:///{tmp_path}/outbox.db")
    outbox.upgrade_schema()
    yield outbox
    outbox.close()


MakeApp = Callable[..., Celery]


@pytest.fixture
def make_app() -> Iterator[MakeApp]:
    """Applications with a task that adds and remembers, and one that fails."""
    made: list[Celery] = []

    def make(broker: str, **conf: Any) -> Celery:
        app = Celery("shop", broker=broker, set_as_current=False, task_cls=DurableTask)
        app.conf.update(task_default_queue="shop", **conf)
        app.ran = []  # type: ignore[attr-defined]

        @app.task(name="shop.add", shared=False)
        def add(*terms: int) -> int:
            app.ran.append(terms)  # type: ignore[attr-defined]
            return sum(terms)

        @app.task(name="shop.fail", shared=False)
        def fail() -> None:
            app.ran.append("fail")  # type: ignore[attr-defined]
            raise ValueError("as it was asked to")

        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


def send(outbox: Outbox, name: str = "shop.add", *args: Any, **options: Any) -> QueuedTask:
    with outbox.store.engine.begin() as transaction:
        return outbox.send_task(transaction, name, args, **options)


def delivered(outbox: Outbox, queued: QueuedTask) -> Message:
    outbox.drain()
    return outbox.get(queued.message_ids[0])


def published(url: str, queue: str = "shop") -> list[dict[str, Any]]:
    with redis.Redis.from_url(url) as broker:
        return [json.loads(raw) for raw in broker.lrange(queue, 0, -1)]  # type: ignore[union-attr]


@pytest.mark.proves("R1")
def test_enqueueing_a_task_or_a_canvas_asks_no_server_for_anything(outbox: Outbox, make_app: MakeApp) -> None:
    app = make_app(NOWHERE, result_backend=NOWHERE)
    install(app, outbox)
    outbox.on_commit = None
    add = app.tasks["shop.add"]
    canvases = [chain(add.s(1), group(add.s(1), add.s(2))), group(add.s(n) for n in range(3)), chord([add.s(1)], add.s())]
    with outbox.store.engine.begin() as transaction:
        single = add.enqueue(transaction, 1)
        sent = [outbox.send_canvas(transaction, canvas) for canvas in canvases]
    assert single.created
    assert [len(each.message_ids) for each in sent] == [1, 3, 1]


@pytest.mark.proves("R1")
def test_a_task_and_a_whole_canvas_add_one_statement_each(outbox: Outbox, make_app: MakeApp) -> None:
    app = make_app(NOWHERE)
    install(app, outbox)
    outbox.on_commit = None
    add = app.tasks["shop.add"]
    statements: list[str] = []
    with outbox.store.engine.begin() as transaction:
        event.listen(transaction, "before_cursor_execute", lambda *told: statements.append(told[2]))
        add.enqueue(transaction, 1)
        outbox.send_canvas(transaction, group(add.s(n) for n in range(50)))
    assert len(statements) == 2


@pytest.mark.proves("R12", "T28")
def test_a_canvas_that_was_given_its_ids_is_enqueued_once(outbox: Outbox, make_app: MakeApp) -> None:
    app = make_app(NOWHERE)
    install(app, outbox)
    outbox.on_commit = None
    add = app.tasks["shop.add"]
    canvas = group(add.s(n).set(task_id=f"parcel {n}") for n in range(2))
    with outbox.store.engine.begin() as transaction:
        first, second = (outbox.send_canvas(transaction, canvas) for _ in range(2))
        outbox.send_canvas(transaction, add.s(3))
        outbox.send_canvas(transaction, add.s(3))
    assert (first.created, second.created) == (True, False)
    assert first.message_ids == second.message_ids
    assert len(outbox.list()) == 4


def test_a_broker_that_is_away_charges_nothing(outbox: Outbox, make_app: MakeApp) -> None:
    install(make_app(NOWHERE), outbox)
    outbox.on_commit = None
    row = delivered(outbox, send(outbox, "shop.add", 1))
    assert (row.status, row.attempt_count, row.last_error) == (Status.QUEUED, 0, None)


def test_a_broker_that_gave_no_answer_is_given_the_task_again_under_its_id(
    outbox: Outbox, make_app: MakeApp, own_redis: OwnValkeyServer
) -> None:
    outbox.register(CeleryTasks(backoff=[0.0], channel_breaker=None))
    install(make_app(own_redis.url), outbox)
    outbox.on_commit = None
    delivered(outbox, send(outbox, "shop.add", 1))
    own_redis.process.freeze()
    queued = send(outbox, "shop.add", 2, ignore_result=True)
    outbox.relay_once()
    row = outbox.get(queued.message_ids[0])
    own_redis.process.thaw()
    assert (row.status, row.outcome_unknown, row.attempt_count) == (Status.FAILED_RETRYABLE, True, 1)
    assert "the broker gave no answer" in (row.last_error or "")
    assert delivered(outbox, queued).status is Status.DELIVERED
    ids = {message["headers"]["id"] for message in published(own_redis.url)}
    assert queued.id in ids
    assert len(ids) == 2


def test_those_who_wait_for_a_connection_that_fails_share_its_failure(
    outbox: Outbox, make_app: MakeApp, own_redis: OwnValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after another, each with its own time-out, the last would come to no try before its send is given up as unknown."""
    monkeypatch.setattr(publishing, "SOCKET_TIMEOUT_S", 0.3)
    sends = CeleryTasks.concurrency
    outbox.register(CeleryTasks(timeout=sends * 0.3))
    install(make_app(own_redis.url), outbox)
    outbox.on_commit = None
    queued = [send(outbox, "shop.add", number) for number in range(sends)]
    own_redis.process.freeze()
    outbox.drain()
    own_redis.process.thaw()
    rows = [outbox.get(each.message_ids[0]) for each in queued]
    assert {(row.status, row.attempt_count, row.outcome_unknown) for row in rows} == {(Status.QUEUED, 0, False)}


def test_the_signal_before_publishing_fires_once_and_not_at_enqueue(outbox: Outbox, make_app: MakeApp, redis_url: str) -> None:
    install(make_app(redis_url), outbox)
    outbox.on_commit = None
    heard: list[str] = []

    def hear(sender: str, headers: dict[str, Any], **_message: Any) -> None:
        heard.append(headers["id"])

    before_task_publish.connect(hear)
    try:
        queued = send(outbox, "shop.add", 1)
        assert heard == []
        delivered(outbox, queued)
    finally:
        before_task_publish.disconnect(hear)
    assert heard == [queued.id]


def test_an_applications_queues_routes_and_unknown_tasks_are_respected(
    outbox: Outbox, make_app: MakeApp, redis_url: str
) -> None:
    queues = [Queue("shop"), Queue("parcels", Exchange("parcels"), routing_key="all")]
    app = make_app(redis_url, task_queues=queues, task_routes={"shop.*": {"queue": "parcels"}}, task_serializer="pickle")
    install(app, outbox)
    outbox.on_commit = None
    send(outbox, "shop.add", 1)
    unknown = send(outbox, "elsewhere.count", 2, queue="shop", priority=0)
    outbox.drain()
    [routed], [named] = published(redis_url, "parcels"), published(redis_url, "shop")
    assert (routed["headers"]["task"], routed["properties"]["delivery_info"]["routing_key"]) == ("shop.add", "parcels")
    assert routed["content-type"] == named["content-type"] == "application/json"
    assert (named["headers"]["task"], named["headers"]["id"]) == ("elsewhere.count", unknown.id)


def test_where_the_caller_did_not_know_the_tasks_class_its_expiry_still_counts_from_the_enqueue(
    outbox: Outbox, make_app: MakeApp, redis_url: str
) -> None:
    queued = send(outbox, "shop.add", 1)
    app = make_app(redis_url)
    app.tasks["shop.add"].expires = 3600
    install(app, outbox)
    row = delivered(outbox, queued)
    [message] = published(redis_url)
    expires = datetime.fromisoformat(message["headers"]["expires"])
    assert round(expires.timestamp() * 1000) == row.queued_at + 3_600_000


def test_a_serializer_that_nobody_knows_fails_for_good(outbox: Outbox, make_app: MakeApp, redis_url: str) -> None:
    install(make_app(redis_url), outbox)
    outbox.on_commit = None
    row = delivered(outbox, send(outbox, "shop.add", 1, serializer="morse"))
    assert row.status is Status.FAILED_TERMINAL
    assert "morse" in (row.last_error or "")
    assert delivered(outbox, send(outbox, "shop.add", 1)).status is Status.DELIVERED


def test_rabbitmq_confirms_and_what_it_refuses_is_not_taken_for_delivered(
    outbox: Outbox, make_app: MakeApp, rabbitmq_url: str
) -> None:
    app = make_app(rabbitmq_url)
    install(app, outbox)
    outbox.on_commit = None
    refused = delivered(outbox, send(outbox, "shop.add", 1, exchange="no-such-exchange", routing_key="x"))
    assert refused.status is Status.FAILED_TERMINAL
    assert "no-such-exchange" in (refused.last_error or "")
    queued = send(outbox, "shop.add", 2, priority=5, headers={"tenant": "acme"})
    assert delivered(outbox, queued).status is Status.DELIVERED
    with app.connection_for_read() as connection:
        message = app.amqp.queues["shop"].bind(connection.default_channel).get(no_ack=True)
    assert message is not None
    assert (message.headers["id"], message.headers["tenant"], message.properties["priority"]) == (queued.id, "acme", 5)
    assert message.decode()[0] == [2]


def test_an_eager_application_runs_the_task_once_at_delivery(outbox: Outbox, make_app: MakeApp) -> None:
    app = make_app(NOWHERE, task_always_eager=True, task_eager_propagates=True)
    install(app, outbox)
    queued = send(outbox, "shop.add", 1, 2)
    assert app.ran == []  # type: ignore[attr-defined]
    assert delivered(outbox, queued).status is Status.DELIVERED
    assert app.ran == [(1, 2)]  # type: ignore[attr-defined]
    failed = delivered(outbox, send(outbox, "shop.fail"))
    assert (failed.status, failed.attempt_count) == (Status.FAILED_TERMINAL, 1)
    with outbox.store.engine.begin() as transaction:
        started = outbox.send_canvas(transaction, chain(app.tasks["shop.add"].s(1), app.tasks["shop.add"].s(2)))
    assert delivered(outbox, started).status is Status.FAILED_TERMINAL
    assert delivered(outbox, send(outbox, "elsewhere.count")).status is Status.FAILED_TERMINAL
    assert app.ran == [(1, 2), "fail"]  # type: ignore[attr-defined]


def test_arguments_that_a_task_does_not_take_are_refused_in_the_request(outbox: Outbox, make_app: MakeApp) -> None:
    app = make_app(NOWHERE)
    install(app, outbox)
    with pytest.raises(TypeError), outbox.store.engine.begin() as transaction:
        app.tasks["shop.fail"].enqueue(transaction, "too many")


@pytest.mark.parametrize(
    ("backend", "make", "complaint"),
    [
        (NOWHERE, lambda add: group([]), "the canvas is empty"),
        (NOWHERE, lambda add: chord([chain(add.s(1), group(add.s(1), add.s(2)))], add.s()), "single tasks and chains"),
        ("cache+memory://", lambda add: chord([add.s(1)], add.s()), "a result backend that joins by itself"),
        (NOWHERE, lambda add: chain(add.s(1), add.s(2).set(countdown=5)), "has a countdown"),
        (NOWHERE, lambda add: add.s(1).set(serializer="pickle"), "the serializer 'pickle'"),
        (NOWHERE, lambda add: group(add.s(1).set(retry=False)), "retry is not for a durable task"),
        (NOWHERE, lambda add: "shop.add", "a canvas is a signature"),
    ],
)
def test_a_canvas_that_cannot_be_kept_whole_is_refused(
    backend: str, make: Callable[[Any], Any], complaint: str, outbox: Outbox, make_app: MakeApp
) -> None:
    app = make_app(NOWHERE, result_backend=backend)
    install(app, outbox)
    outbox.on_commit = None
    with pytest.raises(InvalidMessage, match=complaint), outbox.store.engine.begin() as transaction:
        outbox.send_canvas(transaction, make(app.tasks["shop.add"]))
    assert outbox.list() == []


def test_a_canvas_is_delayed_as_a_whole_and_stays_the_callers_own(outbox: Outbox, make_app: MakeApp) -> None:
    app = make_app(NOWHERE)
    install(app, outbox)
    outbox.on_commit = None
    add = app.tasks["shop.add"]
    canvas = group(add.s(1), chain(add.s(2), add.s(3)))
    before = repr(canvas), json.dumps(canvas)
    with outbox.store.engine.begin() as transaction:
        first = outbox.send_canvas(transaction, canvas, countdown=60)
        second = outbox.send_canvas(transaction, canvas)
    assert (repr(canvas), json.dumps(canvas)) == before
    assert first.id != second.id
    waits = {row.next_attempt_at - row.queued_at for row in outbox.list(turn_id=first.id)}
    assert waits == {60_000}


def test_unfolding_a_canvas_leaves_nothing_behind_in_kombus_pools(outbox: Outbox, make_app: MakeApp) -> None:
    app = make_app(NOWHERE)
    install(app, outbox)
    outbox.on_commit = None
    pools.reset()
    add = app.tasks["shop.add"]
    with outbox.store.engine.begin() as transaction:
        outbox.send_canvas(transaction, group(add.s(n) for n in range(3)))
    assert list(pools.producers) == list(pools.connections) == []


def test_install_says_nothing_of_which_other_channels_there_are(outbox: Outbox, make_app: MakeApp) -> None:
    install(make_app(NOWHERE), outbox)
    outbox.on_commit = None
    with outbox.store.engine.begin() as transaction:
        outbox.enqueue(transaction, "known-to-the-workers-alone", payload=1)
        with pytest.raises(InvalidMessage, match="dictionary of task"):
            outbox.enqueue(transaction, "celery", payload="no call")
    outbox.channel("mine")(lambda message, attempt: None)
    with outbox.store.engine.begin() as transaction, pytest.raises(UnknownChannel):
        outbox.enqueue(transaction, "known-to-the-workers-alone", payload=1)


def test_an_application_may_keep_its_tasks_out_of_the_outbox(outbox: Outbox, make_app: MakeApp) -> None:
    app = make_app(NOWHERE)
    install(app, outbox, durable_tasks=False)
    assert "celery" not in outbox.channels
    with pytest.raises(ConfigurationError, match="knows no Celery application"), outbox.store.engine.begin() as transaction:
        outbox.send_canvas(transaction, app.tasks["shop.add"].s(1))


def test_a_task_of_an_application_without_an_outbox_says_so(make_app: MakeApp) -> None:
    with pytest.raises(ConfigurationError, match="no outbox is installed"):
        make_app(NOWHERE).tasks["shop.add"].enqueue(None, 1)


def test_the_channel_finds_an_application_by_name_when_it_is_needed(outbox: Outbox, redis_url: str) -> None:
    outbox.register(CeleryTasks(app="tests.integration.celery.bare:app"))
    outbox.register(CeleryTasks("nobody", app="tests.integration.celery.nobody:app"))
    outbox.register(CeleryTasks("unbound"))
    assert delivered(outbox, send(outbox, "bare.task", 1)).status is Status.DELIVERED
    for channel in ("nobody", "unbound"):
        with outbox.store.engine.begin() as transaction:
            queued = outbox.enqueue(transaction, channel, payload={"task": "bare.task", "args": [1]})
        outbox.drain()
        row = outbox.get(queued.id)
        assert (row.status, row.attempt_count) == (Status.QUEUED, 0)
    with pytest.raises(ConfigurationError, match="nobody:app cannot be imported"):
        send(outbox, "bare.task", 1, channel="nobody")


async def test_an_asynchronous_session_enqueues_through_its_synchronous_one(tmp_path: Path, make_app: MakeApp) -> None:
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    outbox = Outbox(f"sqlite:///{tmp_path}/async.db")
    outbox.upgrade_schema()
    app = make_app(NOWHERE)
    install(app, outbox)
    outbox.on_commit = None
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/async.db")
    async with AsyncSession(engine) as session, session.begin():
        queued = await session.run_sync(app.tasks["shop.add"].enqueue, 1, 2)
    await engine.dispose()
    assert outbox.get(queued.id).payload == {"task": "shop.add", "args": [1, 2]}
    outbox.close()


def test_the_session_of_an_application_decides(tmp_path: Path, outbox: Outbox, make_app: MakeApp) -> None:
    app = make_app(NOWHERE)
    install(app, outbox)
    outbox.on_commit = None
    engine = create_engine(f"sqlite:///{tmp_path}/outbox.db")
    with Session(engine) as session:
        app.tasks["shop.add"].enqueue(session, 1)
        session.rollback()
        app.tasks["shop.add"].enqueue(session, 2)
        session.commit()
    engine.dispose()
    assert [row.payload["args"] for row in outbox.list()] == [[2]]


def test_the_channels_own_class_is_a_channel_kind() -> None:
    from outbox.channels.registry import build

    channel: Channel = build("celery", {"app": "shop.celery:app", "max_attempts": 20})
    assert isinstance(channel, CeleryTasks)
    assert channel.max_attempts == 20
