"""Any Celery task by a message in the application's transaction: from there through broker and worker, all real."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from celery import chain, chord, group
from sqlalchemy import text

from tests.integration.celery import chores
from tests.integration.celery.chores import await_done, done
from tests.integration.celery.conftest import MakeStack
from tests.integration.celery.stack import Stack

CHORES = {"include": [chores.__name__], "task_default_queue": "chores"}
THEIRS_AND_OURS = ["chores", "special", "outbox.celery"]


@pytest.fixture
def conf(redis_url: str) -> dict[str, Any]:
    return {**CHORES, "result_backend": redis_url}


@pytest.fixture
def stack(make_stack: MakeStack, database_url: str, redis_url: str, conf: dict[str, Any]) -> Stack:
    """An application with tasks, a worker that serves its queues and the outbox's, and a relay in the test's own hands."""
    stack = make_stack(database_url, redis_url, conf=conf)
    stack.application.app.set_current()
    stack.worker(queues=THEIRS_AND_OURS)
    return stack


def task(stack: Stack, name: str) -> Any:
    return stack.application.app.tasks[f"chores.{name}"]


def test_a_committed_task_runs_once_with_its_types_and_under_the_id_that_the_caller_got(stack: Stack) -> None:
    args = (1, 2.5, "x", None, True, [1, {"a": date(2026, 11, 25)}], Decimal("1.10"), UUID(int=7), b"\xff\x00")
    when = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)
    with stack.transaction() as transaction:
        queued = task(stack, "take").enqueue(transaction, *args, when=when)
    assert queued.created
    stack.relay_until(delivered=1)

    [call] = await_done(stack.ledger.path, 1)
    assert (call["args"], call["kwargs"]) == (repr(list(args)), repr({"when": when}))
    assert call["id"] == call["root_id"] == call["correlation_id"] == queued.id
    assert stack.outbox.get(queued.message_ids[0]).receipt["provider_id"] == queued.id


def test_what_is_rolled_back_never_runs(stack: Stack) -> None:
    with stack.outbox.store.engine.connect() as connection:
        task(stack, "take").enqueue(connection, "rolled back")
        stack.outbox.send_canvas(connection, group(task(stack, "take").s(n) for n in range(3)))
        connection.rollback()
    with stack.transaction() as transaction:
        stack.outbox.send_task(transaction, "chores.take", ["committed"])
    stack.relay_until(delivered=1)
    assert [call["args"] for call in await_done(stack.ledger.path, 1)] == ["['committed']"]


def test_every_option_reaches_the_worker(stack: Stack) -> None:
    expires = datetime.now(UTC) + timedelta(hours=1)
    options = {
        "queue": "special", "priority": 3, "headers": {"x-tenant": "acme"}, "shadow": "shop.shadow", "compression": "zlib",
        "serializer": "json", "time_limit": 90, "soft_time_limit": 60, "ignore_result": True, "reply_to": "somewhere",
        "correlation_id": "corr-1", "root_id": "root-1", "parent_id": "parent-1", "group_id": "group-1", "group_index": 4,
        "task_id": "order-42", "argsrepr": "(secret)", "stamped_headers": ["deploy"], "deploy": "v7", "expires": expires,
        "link": task(stack, "excuse").si("after"),
    }  # fmt: skip
    with stack.transaction() as transaction:
        queued = stack.outbox.send_task(transaction, "chores.take", ["a"], {"b": 1}, **options)
    assert queued.id == "order-42"
    stack.relay_until(delivered=1)
    call = next(call for call in await_done(stack.ledger.path, 2) if call["task"] == "chores.take")
    told = {name: call[name] for name in ("id", "root_id", "parent_id", "group", "group_index", "reply_to", "correlation_id")}
    assert told == {
        "id": "order-42", "root_id": "root-1", "parent_id": "parent-1", "group": "group-1", "group_index": 4,
        "reply_to": "somewhere", "correlation_id": "corr-1",
    }  # fmt: skip
    assert (call["shadow"], call["timelimit"], call["ignore_result"]) == ("shop.shadow", [90, 60], True)
    assert (call["priority"], call["routing_key"], call["headers"]) == (3, "special", {"x-tenant": "acme"})
    assert (call["stamps"], call["argsrepr"], call["eta"]) == ({"deploy": "v7"}, "(secret)", None)
    assert abs(datetime.fromisoformat(call["expires"]) - expires) < timedelta(seconds=5)


def test_the_same_task_id_is_one_message(stack: Stack) -> None:
    with stack.transaction() as transaction:
        first = task(stack, "take").apply_enqueue(transaction, (1,), task_id="invoice 7")
        second = task(stack, "take").apply_enqueue(transaction, (1,), task_id="invoice 7")
    assert (first.created, second.created) == (True, False)
    assert (first.id, first.message_ids) == (second.id, second.message_ids) == ("invoice 7", first.message_ids)
    stack.relay_until(delivered=1)
    assert len(await_done(stack.ledger.path, 1)) == 1


def test_a_chain_a_group_a_chord_and_links_run_as_if_they_had_been_applied(stack: Stack) -> None:
    add, total, fail, excuse = (task(stack, name) for name in ("add", "total", "fail", "excuse"))
    canvases = {
        "chain": chain(add.s(1, 2), add.s(10)),
        "chord": chord([add.s(1, 1), add.s(2, 2)], total.s()),
        "chord in a chain": chain(add.s(1), group(add.s(1), add.s(2)), total.s()),
        "map": add.starmap([(1, 2), (3, 4)]),
    }
    with stack.transaction() as transaction:
        ids = {name: stack.outbox.send_canvas(transaction, canvas).id for name, canvas in canvases.items()}
        parts = stack.outbox.send_canvas(transaction, group(add.s(n, n) for n in range(3)))
        chunked = stack.outbox.send_canvas(transaction, add.chunks(zip(range(4), range(4), strict=True), 2))
        linked = fail.apply_enqueue(transaction, (1,), link_error=excuse.s())
    assert len(parts.message_ids) == 3
    assert len(chunked.message_ids) == 2
    stack.relay_until(delivered=11)

    app = stack.application.app
    results = {name: app.AsyncResult(identity).get(timeout=60) for name, identity in ids.items()}
    assert results == {"chain": 13, "chord": 6, "chord in a chain": 5, "map": [3, 7]}
    turn = stack.outbox.list(turn_id=parts.id)
    assert sorted(app.AsyncResult(message.payload["id"]).get(timeout=60) for message in turn) == [0, 2, 4]
    assert {message.turn_id for message in turn} == {parts.id}
    with pytest.raises(ValueError, match="as it was asked to"):
        app.AsyncResult(linked.id).get(timeout=60)
    stack.await_statuses(delivered=11)
    calls = await_done(stack.ledger.path, 2 + 3 + 4 + 3 + 1 + 1)
    assert any(call["task"] == "chores.excuse" for call in calls)


def test_a_countdown_is_the_rows_delay_and_never_waits_in_the_broker(stack: Stack) -> None:
    with stack.transaction() as transaction:
        later = task(stack, "take").apply_enqueue(transaction, (1,), countdown=3600, expires=7200)
        soon = task(stack, "take").apply_enqueue(transaction, (2,), eta=datetime.now(UTC) - timedelta(seconds=1))
    stack.relay_until(delivered=1, queued=1)
    [call] = await_done(stack.ledger.path, 1)
    assert (call["id"], call["eta"]) == (soon.id, None)
    waiting = stack.outbox.get(later.message_ids[0])
    assert waiting.next_attempt_at - waiting.queued_at == 3_600_000
    assert waiting.expires_at is not None
    assert waiting.expires_at - waiting.queued_at == 7_200_000


@pytest.mark.proves("R12", "T13")
def test_when_the_publisher_is_killed_between_publish_and_settle_the_id_lets_the_task_take_effect_once(
    stack: Stack, tmp_path: Path
) -> None:
    with stack.transaction() as transaction:
        transaction.execute(text("create table marks (task_id text primary key)"))
        transaction.execute(text("create table effects (task_id text)"))
    with stack.transaction() as transaction:
        queued = task(stack, "once").enqueue(transaction, kill_publisher_once=str(tmp_path / "killed"))
    stack.relay_until(delivered=1)

    calls = await_done(stack.ledger.path, 2)
    assert [call["id"] for call in calls] == [queued.id, queued.id]
    message = stack.outbox.get(queued.message_ids[0])
    assert (message.attempt_count, message.lease) == (2, 2)
    with stack.transaction() as transaction:
        assert transaction.scalars(text("select task_id from effects")).all() == [queued.id]


@pytest.mark.rabbitmq
def test_over_rabbitmq_tasks_and_canvases_run_with_their_options(
    make_stack: MakeStack, sqlite_url: str, rabbitmq_url: str, conf: dict[str, Any]
) -> None:
    stack = make_stack(sqlite_url, rabbitmq_url, conf=conf)
    stack.application.app.set_current()
    stack.worker(queues=THEIRS_AND_OURS)
    add, total = task(stack, "add"), task(stack, "total")
    with stack.transaction() as transaction:
        task(stack, "take").apply_enqueue(transaction, (1,), queue="special", headers={"x-tenant": "acme"}, priority=4)
        canvas = stack.outbox.send_canvas(transaction, chord([add.s(1, 1), chain(add.s(2), add.s(2))], total.s()))
    stack.relay_until(delivered=3)
    assert stack.application.app.AsyncResult(canvas.id).get(timeout=60) == 6
    call = next(call for call in await_done(stack.ledger.path, 5) if call["task"] == "chores.take")
    assert (call["headers"], call["priority"], call["routing_key"]) == ({"x-tenant": "acme"}, 4, "special")


def test_a_task_that_enqueues_is_the_parent_of_what_it_enqueued(stack: Stack) -> None:
    with stack.transaction() as transaction:
        queued = stack.outbox.send_task(transaction, "chores.delegate", [stack.settings.database])
    stack.relay_until(delivered=2)
    calls = {call["task"]: call for call in await_done(stack.ledger.path, 2)}
    told = calls["chores.take"]
    assert (told["root_id"], told["parent_id"]) == (queued.id, queued.id)
    assert calls["chores.delegate"]["parent_id"] is None


def test_what_a_tasks_class_says_holds_but_a_serializer_other_than_json_and_expiry_counts_from_the_enqueue(
    make_stack: MakeStack, database_url: str, redis_url: str, conf: dict[str, Any]
) -> None:
    routes = {"chores.brief": {"queue": "special"}}
    theirs = {**conf, "task_serializer": "yaml", "accept_content": ["json", "yaml"], "task_routes": routes}
    stack = make_stack(database_url, redis_url, conf=theirs)
    stack.application.app.set_current()
    stack.worker(queues=THEIRS_AND_OURS)
    with stack.transaction() as transaction:
        queued = stack.outbox.send_task(transaction, "chores.brief")
        stack.outbox.send_task(transaction, "chores.take", [Decimal("1.5")])
    message = stack.outbox.get(queued.message_ids[0])
    assert (message.expires_at or 0) - message.queued_at == 3_600_000
    stack.relay_until(delivered=2)
    calls = {call["task"]: call for call in await_done(stack.ledger.path, 2)}
    brief = calls["chores.brief"]
    assert brief["routing_key"] == "special"
    expires = datetime.fromisoformat(brief["expires"]).timestamp()
    assert abs(expires - (message.queued_at / 1000 + 3600)) < 5
    assert calls["chores.take"]["args"] == repr([Decimal("1.5")])
    assert done(stack.ledger.path)[0]["content_type"] in (None, "application/json")
