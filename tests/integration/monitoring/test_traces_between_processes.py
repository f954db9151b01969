"""A trace goes through the database: from the process of a request into those of a worker node."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from outbox.integrations.opentelemetry import instrument
from tests.integration.celery.conftest import MakeStack
from tests.integration.celery.nodes import Node, Nursery, eventually
from tests.integration.celery.stack import WITHOUT_CHATTER, Stack
from tests.integration.monitoring import traced_app
from tests.integration.monitoring.traced_app import SPANS, provider, spans_in

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def spans(tmp_path: Path) -> Path:
    return tmp_path / "spans"


@pytest.fixture
def stack(make_stack: MakeStack, sqlite_url: str, redis_url: str) -> Stack:
    return make_stack(sqlite_url, redis_url)


@pytest.fixture
def worker(stack: Stack, nursery: Nursery, spans: Path) -> Iterator[Node]:
    arguments = ["worker", "-n", "traced@here", "-P", "prefork", "-c", "2", "-l", "INFO", *WITHOUT_CHATTER]
    environment = stack.settings.to_environment() | {SPANS: str(spans)}
    node = Node(nursery, "traced", arguments, environment, " ready.", application=traced_app.__name__)
    with closing(node):
        yield node.await_ready()


@pytest.mark.parametrize("channel", ["single", "loop"], ids=["in a thread", "on the event loop"])
def test_attempts_in_pool_processes_stand_in_the_trace_of_the_request_that_enqueued_their_message(
    stack: Stack, worker: Node, spans: Path, channel: str
) -> None:
    here = provider(spans)
    instrument(stack.outbox, here)
    with here.get_tracer("the application").start_as_current_span("POST /orders"):
        stack.enqueue(channel, 3, payload={"raises": "retry"})

    stack.relay_until(delivered=3)

    def delivered() -> list[dict[str, Any]]:
        return [span for span in spans_in(spans) if span["name"] == f"deliver {channel}"]

    eventually(lambda: len(delivered()) == 6, lambda: f"two attempts of three messages, not {delivered()}")
    (enqueued,) = (span for span in spans_in(spans) if span["name"] == f"enqueue {channel}")
    assert {span["parent_id"] for span in delivered()} == {enqueued["context"]["span_id"]}
    assert {span["context"]["trace_id"] for span in delivered()} == {enqueued["context"]["trace_id"]}
    assert sorted(span["attributes"]["outbox.outcome"] for span in delivered()) == ["delivered"] * 3 + ["retry"] * 3
    assert os.getpid() not in {span["pid"] for span in delivered()}
    assert {span["pid"] for span in delivered()} <= worker.children()
