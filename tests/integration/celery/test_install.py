"""``install`` in applications that were there before: what is theirs stays, and their habits do not reach the outbox."""

import inspect
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery, Task
from celery.utils.time import rate
from kombu import Exchange, Queue

from outbox import Outbox
from outbox.channels.base import FunctionChannel
from outbox.errors import ConfigurationError
from outbox.integrations.celery import install
from outbox.telemetry import AttemptFinished, Event
from tests.integration.celery.conftest import MakeStack
from tests.integration.celery.nodes import APPLICATION, PROJECT

RELAY, MAINTAIN, DELIVER = "outbox.relay", "outbox.maintain", "outbox.deliver.note"


@pytest.fixture
def make_outbox(tmp_path: Any) -> Iterator[Callable[[], Outbox]]:
    """Outboxes on databases of their own, with a channel `note` that remembers what it sent in `sent`."""
    opened: list[Outbox] = []

    def make() -> Outbox:
        outbox = Outbox(f"sqlite:///{tmp_path}/{len(opened)}.db")
        outbox.upgrade_schema()
        outbox.sent = []  # type: ignore[attr-defined]
        outbox.register(FunctionChannel("note", lambda message, _attempt: outbox.sent.append(message.payload)))  # type: ignore[attr-defined]
        opened.append(outbox)
        return outbox

    yield make
    for outbox in opened:
        outbox.close()


def an_app(broker: str = "memory://", **conf: Any) -> Celery:
    app = Celery("shop", broker=broker, set_as_current=False)
    app.conf.update(**conf)
    return app


def served(app: Celery) -> set[str]:
    """The queues that a worker without `-Q` serves."""
    return set(app.amqp.queues.consume_from)


def test_the_applications_own_queues_routes_serializer_and_schedule_stay(make_outbox: Callable[[], Outbox]) -> None:
    mine = Queue("mine", Exchange("shop"), routing_key="shop.mine")
    entry = {"task": "shop.count", "schedule": 60.0}
    app = an_app(
        task_queues=[mine],
        task_default_queue="mine",
        task_routes={"shop.*": {"queue": "mine"}},
        task_serializer="yaml",
        accept_content=["yaml", "json"],
        beat_schedule={"count": entry},
    )
    install(app, make_outbox())
    assert app.conf.task_queues[0] is mine
    assert served(app) == {"mine", "outbox.relay", "outbox.note", "outbox.celery"}
    assert app.conf.task_routes == {"shop.*": {"queue": "mine"}}
    assert app.conf.task_serializer == "yaml"
    assert app.conf.beat_schedule["count"] == entry
    assert set(app.conf.beat_schedule) == {"count", RELAY, MAINTAIN}


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"task_default_queue": "orders"},
        {"task_default_queue": "orders", "task_default_exchange": "shop", "task_default_routing_key": "all"},
        {"task_default_queue_type": "quorum"},
        {"task_queue_max_priority": 10},
    ],
)
def test_an_application_that_named_no_queues_keeps_the_default_one_as_it_was(
    make_outbox: Callable[[], Outbox], conf: dict[str, Any]
) -> None:
    untouched, app = an_app(**conf), an_app(**conf)
    install(app, make_outbox())
    [name] = served(untouched)
    assert served(app) == {name, "outbox.relay", "outbox.note", "outbox.celery"}
    assert app.amqp.queues[name].as_dict() == untouched.amqp.queues[name].as_dict()


def test_queues_may_be_configured_as_a_mapping_and_one_of_the_outboxs_names_is_left_alone(
    make_outbox: Callable[[], Outbox],
) -> None:
    app = an_app(task_queues={"mine": {"exchange": "shop"}, "outbox.note": {"exchange": "notes"}})
    install(app, make_outbox())
    assert served(app) == {"mine", "outbox.relay", "outbox.note", "outbox.celery"}
    assert app.amqp.queues["outbox.note"].exchange.name == "notes"


def test_both_ends_know_the_same_queue_where_only_one_declares_it(make_outbox: Callable[[], Outbox]) -> None:
    conf = {"task_default_exchange_type": "topic", "task_create_missing_queue_type": "quorum"}
    worker, publisher = an_app(**conf), an_app(**conf)
    install(worker, make_outbox())
    install(publisher, make_outbox(), declare_queues=False)
    for name in ("outbox.relay", "outbox.note"):
        assert worker.amqp.queues[name].as_dict() == publisher.amqp.queues[name].as_dict()


def test_queues_and_schedule_are_left_out_where_asked(make_outbox: Callable[[], Outbox]) -> None:
    app = an_app()
    install(app, make_outbox(), declare_queues=False, schedule=False)
    assert served(app) == {"celery"}
    assert app.conf.beat_schedule == {}
    assert {RELAY, MAINTAIN, DELIVER} <= set(app.tasks)


def test_a_channel_registered_after_install_gets_its_task_and_its_queue(make_outbox: Callable[[], Outbox]) -> None:
    app, outbox = an_app(), make_outbox()
    install(app, outbox)
    outbox.channel("later")(lambda _message, _attempt: None)
    assert "outbox.deliver.later" in app.tasks
    assert "outbox.later" in served(app)


@pytest.mark.parametrize("option", ["relay_interval_s", "maintain_interval_s", "delivery_budget_s"])
@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, True, "1", None])
def test_a_duration_that_is_none_is_refused_by_name(make_outbox: Callable[[], Outbox], option: str, seconds: Any) -> None:
    app = an_app()
    with pytest.raises(ConfigurationError, match=f"{option} must be a number of seconds above 0"):
        install(app, make_outbox(), **{option: seconds})
    assert RELAY not in app.tasks


def test_two_applications_in_one_process_each_serve_their_own_outbox(make_outbox: Callable[[], Outbox]) -> None:
    bystander = an_app()
    apps = [an_app(task_always_eager=True) for _ in range(2)]
    outboxes = [make_outbox() for _ in range(2)]
    for app, outbox in zip(apps, outboxes, strict=True):
        install(app, outbox)
        app.finalize()
    for number, outbox in enumerate(outboxes):
        with outbox.store.engine.begin() as transaction:
            outbox.enqueue(transaction, "note", payload=number)
    for app in apps:
        app.tasks[RELAY].delay()
    assert [outbox.sent for outbox in outboxes] == [[0], [1]]  # type: ignore[attr-defined]
    assert not [name for name in bystander.tasks if name.startswith("outbox.")]


def test_a_second_outbox_on_one_application_is_refused(make_outbox: Callable[[], Outbox]) -> None:
    app = an_app()
    install(app, make_outbox())
    with pytest.raises(ConfigurationError, match="an outbox is installed on this application already"):
        install(app, make_outbox())


def test_an_application_whose_workers_do_not_accept_json_is_told_at_once(make_outbox: Callable[[], Outbox]) -> None:
    with pytest.raises(ConfigurationError, match="add 'json' to accept_content"):
        install(an_app(accept_content=["pickle"]), make_outbox())


def test_defaults_and_base_classes_of_the_application_do_not_reach_the_outboxs_tasks(
    make_outbox: Callable[[], Outbox], redis_url: str
) -> None:
    class Retrying(Task):
        autoretry_for = (Exception,)
        retry_backoff = True

    app = Celery("shop", broker=redis_url, set_as_current=False, task_cls=Retrying)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_time_limit=1,
        task_soft_time_limit=100_000,  # above the hard limit of ours: Celery would refuse to publish
        task_default_rate_limit="1/h",
        task_serializer="pickle",
        accept_content=["pickle", "json"],
    )
    outbox = make_outbox()
    installation = install(app, outbox)
    for name in (RELAY, MAINTAIN, DELIVER):
        task = app.tasks[name]
        assert not isinstance(task, Retrying)
        assert (task.acks_late, task.reject_on_worker_lost, task.max_retries, task.ignore_result) == (False, False, 0, True)
        assert task.time_limit == task.soft_time_limit > 60
        assert rate(task.rate_limit) == 0

    with outbox.store.engine.begin() as transaction:
        outbox.on_commit = None
        outbox.enqueue(transaction, "note")
    assert installation.relay.run_once().tasks == 1
    with redis.Redis.from_url(redis_url) as client:
        message = json.loads(client.lrange("outbox.note", 0, -1)[0])  # type: ignore[index]
    assert message["content-type"] == "application/json"


def test_a_tick_outlives_the_difference_of_two_hosts_clocks(make_outbox: Callable[[], Outbox]) -> None:
    app = an_app()
    install(app, make_outbox(), relay_interval_s=0.5, maintain_interval_s=60)
    lives = {name: app.conf.beat_schedule[name]["options"]["expires"] for name in (RELAY, MAINTAIN)}
    assert lives == {RELAY: 10, MAINTAIN: 54}


def test_with_eager_tasks_nothing_is_published_and_a_relay_task_delivers_in_place(
    make_outbox: Callable[[], Outbox],
) -> None:
    app, outbox = an_app("redis://127.0.0.1:1/0", task_always_eager=True, task_eager_propagates=True), make_outbox()
    installation = install(app, outbox)
    with outbox.store.engine.begin() as transaction:
        queued = outbox.enqueue(transaction, "note", payload="now")
    installation.nudge()
    assert outbox.get(queued.id).status == "queued"
    app.tasks[RELAY].delay()
    assert outbox.sent == ["now"]  # type: ignore[attr-defined]
    assert outbox.get(queued.id).status == "delivered"


def test_with_eager_tasks_no_batch_is_delivered_inside_another(make_outbox: Callable[[], Outbox]) -> None:
    """Each has used up the allowance, and none claims the next at its end: a thousand would be a thousand calls deep."""
    app, outbox = an_app(task_always_eager=True, task_eager_propagates=True), make_outbox()
    depths: set[int] = set()

    def measure(event: Event) -> None:
        if isinstance(event, AttemptFinished):
            depths.add(len(inspect.stack()))

    outbox.register(FunctionChannel("narrow", lambda _message, _attempt: None, max_in_flight=1))
    outbox.telemetry.subscribe(measure)
    install(app, outbox, relay_interval_s=60.0)  # which leaves one pass time for all of them
    with outbox.store.engine.begin() as transaction:
        ids = [outbox.enqueue(transaction, "narrow").id for _ in range(5)]
    app.tasks[RELAY].delay()
    assert [outbox.get(message_id).status for message_id in ids] == ["delivered"] * 5
    assert len(depths) == 1


def test_while_nobody_relays_commits_do_not_ask_the_broker_each_time(make_outbox: Callable[[], Outbox], redis_url: str) -> None:
    """The nudge's thread shares its interpreter with the requests: each look at a queue would hold one of them up."""
    app = an_app(redis_url)
    nudge = install(app, make_outbox()).nudge
    with redis.Redis.from_url(redis_url) as client:
        client.rpush("outbox.note", "a delivery task")
        client.rpush("outbox.relay", *["a wake-up"] * 10)
        client.config_resetstat()
        of_a_nudge = 2 * 4  # two queues, and each is a list for every priority of the transport
        looks, started = 0, time.monotonic()
        while looks < 5 * of_a_nudge and time.monotonic() - started < 60:
            for _ in range(100):
                nudge("note")
                time.sleep(0.001)
            looks = client.info("commandstats").get("cmdstat_llen", {"calls": 0})["calls"]
            passed_s = time.monotonic() - started
        assert client.llen("outbox.relay") == 10
    assert 5 * of_a_nudge <= looks <= of_a_nudge * (passed_s / 0.05 + 1)


@pytest.mark.proves("R7", "T27")
def test_the_schedule_maintains_and_so_prunes_without_being_asked(make_outbox: Callable[[], Outbox]) -> None:
    app, outbox = an_app(task_always_eager=True, task_eager_propagates=True), make_outbox()
    install(app, outbox)
    with outbox.store.engine.begin() as transaction:
        outbox.enqueue(transaction, "note")
    outbox.drain()
    m = outbox.store.tables.messages
    with outbox.store.transaction() as tx:
        tx.connection.execute(m.update().values(completed_at=m.c.completed_at - 3 * 24 * 3_600_000))

    app.tasks[app.conf.beat_schedule[MAINTAIN]["task"]].delay()

    assert outbox.list() == []


def test_nothing_is_kept_in_a_result_backend_and_inspect_lists_the_tasks(
    make_stack: MakeStack, sqlite_url: str, redis_url: str
) -> None:
    stack = make_stack(sqlite_url, redis_url, conf={"result_backend": redis_url, "task_track_started": True})
    worker = stack.worker(pool="threads", queues=["outbox.bulk", "outbox.relay"])
    stack.enqueue("bulk", 3)
    stack.enqueue("single")
    stack.relay()
    stack.await_statuses(delivered=3, dispatched=1)  # of `single`, whose queue this worker does not serve
    worker.says("outbox.deliver.bulk[")

    answer = subprocess.run(
        [sys.executable, "-m", "celery", "-A", APPLICATION, "inspect", "registered", "--json"],
        check=True, capture_output=True, cwd=PROJECT, env={**os.environ, **stack.settings.to_environment()},
    )  # fmt: skip
    [lines] = json.loads(answer.stdout).values()
    assert {RELAY, MAINTAIN, "outbox.deliver.bulk", "outbox.deliver.single"} <= {line.split()[0] for line in lines}
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("celery-task-meta-*") == []
