"""Handlers that do to their process whatever they can: their messages end, and those of other channels are sent meanwhile."""

from collections.abc import Collection

import pytest

from tests.integration.celery.conftest import MakeStack
from tests.integration.celery.misdeeds import MISDEEDS, SURVIVED
from tests.integration.celery.nodes import eventually
from tests.integration.celery.stack import Stack

ATTEMPTS = 2
ENDLESS = 1_000


everywhere = pytest.mark.parametrize(
    ("pool", "url", "misdeeds"),
    [
        pytest.param("prefork", "postgres_url", MISDEEDS, id="prefork", marks=pytest.mark.postgres),
        pytest.param(
            "threads", "sqlite_url", SURVIVED, id="threads"
        ),  # here a node is one process, and a supervisor's business: see test_misdeeds_supervised.py
    ],
)


@pytest.fixture
def stack(make_stack: MakeStack, request: pytest.FixtureRequest, redis_url: str, pool: str, url: str) -> Stack:
    # Rarer ticks: a process that all this has slowed down, and that reads ten of them a second, never comes to the end of those
    # that have waited for too long.
    stack = make_stack(request.getfixturevalue(url), redis_url, horizon_ms=1000, lease_margin_s=6, tick_s=1.0)
    stack.worker(pool=pool)
    stack.beat()
    return stack


def set_loose(stack: Stack, misdeeds: Collection[str], attempts: int) -> dict[tuple[str, str], str]:
    """A message for each misdeed, which repeats it at each attempt; their ids."""
    return {
        (channel, misdeed): stack.enqueue(
            channel, payload={"misdeed": misdeed, "on": list(range(1, attempts + 1))}, max_attempts=attempts
        )[0]
        for misdeed in misdeeds
        for channel in (("wild", "wild-loop") if misdeed in SURVIVED else ("wild",))
    }


def neighbours_in(stack: Stack) -> list[str]:
    return stack.enqueue("single", 20) + stack.enqueue("bulk", 100) + stack.enqueue("loop", 20)


@everywhere
@pytest.mark.timeout(300)
@pytest.mark.proves("T12")
def test_whatever_a_handler_does_its_message_ends_after_its_attempts_and_its_neighbours_are_sent(
    stack: Stack, misdeeds: Collection[str]
) -> None:
    hostile = set_loose(stack, misdeeds, ATTEMPTS)
    neighbours = neighbours_in(stack)

    eventually(
        lambda: stack.statuses() == {"delivered": 140, "failed_terminal": len(hostile)},
        lambda: (
            f"an end of all, and there are {[deed for deed, id in hostile.items() if not stack.outbox.get(id).completed_at]}"
        ),
        patience_s=180,
    )

    assert {deed: stack.outbox.get(id).terminal_reason for deed, id in hostile.items()} == dict.fromkeys(
        hostile, "attempts used up"
    )
    assert {deed: len(stack.ledger.arrivals(id)) for deed, id in hostile.items()} == dict.fromkeys(hostile, ATTEMPTS)
    assert stack.nodes[0].is_running()
    stack.was_sent_once(neighbours)


@everywhere
@pytest.mark.timeout(300)
@pytest.mark.proves("T12")
def test_neighbours_need_not_wait_for_the_end_of_handlers_that_do_it_again_and_again(
    stack: Stack, misdeeds: Collection[str]
) -> None:
    hostile = set_loose(stack, misdeeds, ENDLESS)
    eventually(lambda: stack.ledger.counts().keys() >= set(hostile.values()), "not all are loose", patience_s=120)
    neighbours = neighbours_in(stack)

    eventually(
        lambda: {message.status for message in stack.messages(neighbours)} == {"delivered"},
        lambda: f"the neighbours, and there are {dict(stack.statuses())}",
        patience_s=120,
    )

    assert [deed for deed, id in hostile.items() if stack.outbox.get(id).completed_at] == []
