"""From a call of a Celery task to a message: what becomes the row's, what travels along, and what is refused."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from outbox import codec
from outbox.errors import InvalidMessage
from outbox.message import NewMessage
from outbox.tasks.calls import NewCall, TaskCall, message, read
from outbox.tasks.options import plain

ROOT = Path(__file__).parents[3]


def called(*args: Any, kwargs: dict[str, Any] | None = None, **options: Any) -> NewMessage:
    return message("celery", NewCall("shop.pack", args, kwargs, options))


class Signature(dict[str, Any]):
    """A dictionary with behaviour, as Celery's signatures are."""


def signature(name: str = "shop.after", **options: Any) -> Signature:
    return Signature(task=name, args=(), kwargs={}, options=Signature(options), subtask_type=None, immutable=False)


def test_a_call_is_a_small_message_named_after_its_task() -> None:
    made = called(1, "x", kwargs={"by": Decimal("1.5")})
    assert (made.channel, made.target, made.idempotency_key) == ("celery", "shop.pack", None)
    assert made.payload == {"task": "shop.pack", "args": [1, "x"], "kwargs": {"by": Decimal("1.5")}}
    assert called().payload == {"task": "shop.pack"}
    assert read(made.payload) == TaskCall("shop.pack", [1, "x"], {"by": Decimal("1.5")})


@pytest.mark.proves("R2")
def test_what_travels_along_comes_back_from_the_row_as_it_was() -> None:
    options = {
        "queue": "parcels", "exchange": "shop", "exchange_type": "topic", "routing_key": "parcels.now", "priority": 0,
        "delivery_mode": "transient", "serializer": "json", "compression": "bzip2", "headers": {"tenant": "acme"},
        "shadow": "pack", "reply_to": "somewhere", "correlation_id": "c", "root_id": "r", "parent_id": "p", "group_id": "g",
        "group_index": 0, "time_limit": 9.5, "soft_time_limit": 9, "ignore_result": False, "mandatory": True, "retries": 2,
        "argsrepr": "(…)", "kwargsrepr": "{}", "link": [signature()], "link_error": signature(), "chain": [signature()],
        "chord": signature(chord_size=2), "stamped_headers": ["deploy"], "deploy": "v7", "replaced_task_nesting": 1,
    }  # fmt: skip
    stored = codec.decode(codec.encode(called(**options).payload))
    assert read(stored).options == plain(options)


def test_an_option_that_is_none_was_not_given() -> None:
    assert called(link=None, expires=None, countdown=None, producer=None).payload == {"task": "shop.pack"}


@pytest.mark.proves("R12", "T28")
def test_the_task_id_is_the_idempotency_key() -> None:
    assert called(task_id="order-42").idempotency_key == "order-42"


def test_the_due_time_and_the_expiry_become_the_rows_own() -> None:
    now = datetime.now(UTC)
    delayed = called(countdown=60, expires=100)
    assert (delayed.delay, delayed.due_at, delayed.expires_in) == (60, None, 40)
    assert delayed.payload == {"task": "shop.pack", "expires": True}
    at = called(eta=now + timedelta(hours=1), expires=now + timedelta(hours=3))
    assert at.due_at == now + timedelta(hours=1)
    assert at.expires_in == pytest.approx(7200, abs=0.01)
    assert called(expires=timedelta(minutes=2)).expires_in == 120
    assert called(expires=now + timedelta(minutes=2)).expires_in == pytest.approx(120, abs=5)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"retry": True}, "retry is not for a durable task: the outbox itself publishes again"),
        ({"retry_policy": {"max_retries": 3}}, "retry_policy is not for a durable task"),
        ({"connection": object()}, "belongs to the process that publishes"),
        ({"add_to_parent": True}, "rolled back"),
        ({"expiration": 3}, "say expires"),
        ({"prioritty": 3}, "no option 'prioritty'; did you mean 'priority'"),
        ({"serializer": "pickle"}, "the serializer 'pickle' is not for a durable task: say 'json'"),
        ({"serializer": "yaml"}, "the serializer 'yaml'"),
        ({"queue": object()}, "queue is a object, which cannot be stored"),
        ({"priority": True}, "priority is a bool"),
        ({"headers": ["x"]}, "headers is a list"),
        ({"countdown": 1, "eta": datetime.now(UTC)}, "either countdown or eta"),
        ({"eta": datetime(2030, 1, 1)}, "eta must be a datetime with a time zone"),  # noqa: DTZ001
        ({"eta": "2030-01-01T00:00:00Z"}, "eta must be a datetime with a time zone"),
        ({"expires": datetime(2030, 1, 1)}, "with a time zone"),  # noqa: DTZ001
        ({"expires": "tomorrow"}, "expires must be a number of seconds"),
        ({"expires": 0}, "expire before it is due"),
        ({"expires": 60, "countdown": 60}, "expire before it is due"),
        ({"expires": datetime.now(UTC) - timedelta(hours=1)}, "expire before it is due"),
        ({"link": signature(countdown=5)}, "the step 'shop.after' of a canvas has a countdown or eta"),
        ({"chain": [signature(link=[signature(eta=datetime.now(UTC))])]}, "has a countdown or eta"),
        ({"chord": signature(serializer="pickle")}, "the serializer 'pickle'"),
        ({"headers": {"after": timedelta(seconds=1)}}, "Celery's JSON has no timedelta"),
    ],
)
def test_what_would_be_lost_or_changed_on_the_way_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidMessage, match=complaint):
        called(**options)


def test_arguments_that_the_worker_would_not_get_as_they_are_are_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for arguments, complaint in (
        ([{"wait": [timedelta(seconds=1)]}], "no timedelta"),
        (circle, "nested too deeply"),
    ):
        with pytest.raises(InvalidMessage, match=complaint):
            called(*arguments)
    with pytest.raises(InvalidMessage, match="args are a list"):
        message("celery", NewCall("shop.pack", "abc"))
    with pytest.raises(InvalidMessage, match="named by text"):
        message("celery", NewCall(""))


@pytest.mark.parametrize(
    "payload",
    [None, "shop.pack", [], {}, {"task": 7}, {"task": "x", "arg": []}, {"task": "x", "args": "abc"},
     {"task": "x", "kwargs": []}, {"task": "x", "options": {"countdown": 5}}, {"task": "x", "options": {"task_id": "y"}},
     {"task": "x", "options": {"retry": True}}],
)  # fmt: skip
def test_a_payload_that_no_call_made_is_refused(payload: Any) -> None:
    with pytest.raises(InvalidMessage):
        read(payload)


def test_who_only_enqueues_tasks_imports_no_celery() -> None:
    script = (
        "import sys; from sqlalchemy import create_engine; from outbox import Outbox; engine = create_engine('sqlite://')\n"
        "outbox = Outbox(engine=engine); outbox.upgrade_schema()\n"
        "with engine.begin() as transaction:\n"
        "    queued = outbox.send_task(transaction, 'shop.pack', [1], {'by': 2}, priority=3, expires=60)\n"
        "print(outbox.get(queued.id).payload['task'], [name for name in sys.modules if name in ('celery', 'kombu')])"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "shop.pack []\n"
