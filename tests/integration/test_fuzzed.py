"""Whatever anybody hands over is refused at the door, by an error that says so, or comes back exactly as it was."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from outbox import Message, NewMessage, Outbox
from outbox.errors import OutboxError
from outbox.integrations.celery import envelope
from outbox.legacy import import_directory
from outbox.store.records import Taker
from tests.command import Command
from tests.fuzzing import json_values, names, nested, numbers, shape, texts, values

NOW_AND_THEN = settings(max_examples=max(1, settings().max_examples // 4), suppress_health_check=list(HealthCheck))
"""One database, emptied by nobody between the examples: each looks at its own rows alone."""
FIELDS = ("account_id", "target", "turn_id", "ordering_key", "idempotency_key")

anything = st.fixed_dictionaries(
    {"channel": names},
    optional={
        **dict.fromkeys(FIELDS, st.none() | names | values),
        "payload": values | nested(),
        "headers": st.none() | st.dictionaries(names, texts, max_size=3) | values,
        "dispatch_kind": st.sampled_from([None, "final", "block", "tool"]) | texts,
        "priority": st.integers(-100, 100) | numbers,
        "delay": st.none() | st.floats(0, 1e9) | values,
        "expires_in": st.none() | st.floats(0, 1e9) | values,
        "due_at": st.none() | st.datetimes() | values,
        "max_attempts": st.none() | st.integers(1, 1_000) | numbers,
    },
)
sound = st.fixed_dictionaries(
    {"channel": st.text("abc-", min_size=1, max_size=8), "target": st.text("xyz", max_size=8), "payload": values},
    optional={"headers": st.dictionaries(texts, texts, max_size=3), "idempotency_key": texts, "ordering_key": texts},
)


@pytest.mark.proves("R2", "R21")
@NOW_AND_THEN
@given(anything | sound)
@example({"channel": "chat", "payload": {"text": "\x00"}, "idempotency_key": "k"})
def test_what_is_enqueued_comes_back_as_it_was_or_is_refused_and_leaves_nothing(outbox: Outbox, fields: dict[str, Any]) -> None:
    with outbox.store.engine.begin() as connection:
        before = _rows(outbox, connection)
        try:
            queued = outbox.enqueue_many(connection, [NewMessage(**fields)])
        except OutboxError:
            queued = []
        after = _rows(outbox, connection)  # the transaction goes on, whatever was refused in it
    assert after - before == sum(each.created for each in queued)
    for each in queued:
        if each.created:
            _assert_same(outbox.get(each.id), fields)


@NOW_AND_THEN
@given(st.lists(values | nested(), min_size=1, max_size=3))
def test_what_is_enqueued_is_what_the_adapter_gets(outbox: Outbox, payloads: list[Any]) -> None:
    if "chat" not in outbox.channels:
        outbox.channel("chat", batch_size=10, ordered=True)(lambda message, _attempt: _got.append(message.payload))
    _got.clear()
    kept = []
    with outbox.store.engine.begin() as connection:
        for payload in payloads:
            try:
                outbox.enqueue(connection, "chat", target="ada", payload=payload)
            except OutboxError:
                continue
            kept.append(payload)
    outbox.drain()
    assert [shape(payload) for payload in _got] == [shape(payload) for payload in kept]


_got: list[Any] = []


@NOW_AND_THEN
@given(st.none() | st.integers() | texts, json_values)
@example(1, [["\x00", 0]])
@example(1, [["an-id", 2**63]])
@example(1, [["an-id", True]])
def test_whatever_the_broker_carries_takes_nothing_and_breaks_nothing(outbox: Outbox, version: Any, claims: Any) -> None:
    try:
        found = envelope.unpack(version, claims)
    except envelope.UnreadableEnvelope:
        return
    assert outbox.store.take(found, Taker("chat", "owner", 1_000)) == []
    assert outbox.store.release(found) == 0


@NOW_AND_THEN
@given(st.data())
def test_whatever_is_typed_after_enqueue_is_stored_as_it_was_or_refused_in_one_line(
    outbox: Outbox, data: st.DataObject
) -> None:
    command = Command(["--database", outbox.store.engine.url.render_as_string(hide_password=False)])
    payload = data.draw(json_values)
    text = data.draw(st.just(json.dumps(payload)) | texts)
    target, key = data.draw(texts), data.draw(st.none() | texts)
    options = [f"--payload={text}", f"--target={target}", *([] if key is None else [f"--key={key}"])]
    ended = command("enqueue", "--json", *options, "--", data.draw(names))
    assert ended.status in (0, 1, 2)
    assert "Traceback" not in ended.stderr
    if ended.status == 0 and ended.data["created"]:
        message = outbox.get(ended.data["id"])
        assert (message.target, message.idempotency_key) == (target, key)
        assert shape(message.payload) == shape(json.loads(text))


@NOW_AND_THEN
@given(
    st.sampled_from(["list", "show", "retry", "cancel", "pause", "resume", "resolve", "prune", "status"]),
    st.lists(texts | st.sampled_from(["--status", "--channel", "--limit", "--before", "--json", "--yes", "--for"]), max_size=4),
)
def test_whatever_is_typed_the_command_ends_with_a_status_of_its_own(outbox: Outbox, name: str, arguments: list[str]) -> None:
    command = Command(["--database", outbox.store.engine.url.render_as_string(hide_password=False)])
    ended = command(name, *arguments)
    assert ended.status in (0, 1, 2)
    assert "Traceback" not in ended.stderr


entries = st.dictionaries(
    st.sampled_from(["id", "enqueuedAt", "channel", "to", "accountId", "payloads", "retryCount", "lastError", "threadId"]),
    json_values | names,
    max_size=9,
)
contents = st.binary(max_size=200) | st.builds(lambda entry: json.dumps(entry).encode(), entries | json_values)


@NOW_AND_THEN
@given(st.dictionaries(st.text("ab01-.", min_size=1, max_size=12), contents, max_size=4))
def test_whatever_lies_in_a_file_queue_is_imported_or_refused_and_kept(outbox: Outbox, files: dict[str, bytes]) -> None:
    with TemporaryDirectory() as directory:
        queue = Path(directory) / "queue"
        (queue / "failed").mkdir(parents=True)
        for name, content in files.items():
            if name.strip("."):
                (queue / f"{name}.json").write_bytes(content)
        written = sorted(file.read_bytes() for file in queue.rglob("*.json"))
        import_directory(outbox, queue)
        again = import_directory(outbox, queue)
        assert sorted(file.read_bytes() for file in queue.rglob("*") if file.suffix == ".json") == written
        assert again.imported == 0


def _rows(outbox: Outbox, connection: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(outbox.store.tables.messages)).scalar_one())


def _assert_same(message: Message | None, fields: dict[str, Any]) -> None:
    assert message is not None
    for name in (*FIELDS, "channel", "payload"):
        if name in fields:
            assert shape(getattr(message, name)) == shape(fields[name]), name
    assert shape(message.headers or None) == shape(fields.get("headers") or None)
