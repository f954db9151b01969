"""Handlers that do to their process whatever they can: their messages end, and those of other channels are sent meanwhile."""

from collections.abc import Collection

import pytest

from tests.integration.celery.conftest import MakeStack
from tests.integration.celery.misdeeds import MISDEEDS, SURVIVED
from tests.integration.celery.nodes import eventually

ATTEMPTS = 2


@pytest.mark.parametrize(
    ("pool", "url", "misdeeds"),
    [
        pytest.param("prefork", "postgres_url", MISDEEDS, id="prefork", marks=pytest.mark.postgres),
        pytest.param(
            "threads", "sqlite_url", SURVIVED, id="threads"
        ),  # here a node is one process, and a supervisor's business
    ],
)
@pytest.mark.timeout(300)
@pytest.mark.proves("T12")
def test_whatever_a_handler_does_its_message_ends_after_its_attempts_and_its_neighbours_are_sent(
    make_stack: MakeStack, request: pytest.FixtureRequest, redis_url: str, pool: str, url: str, misdeeds: Collection[str]
) -> None:
    # Rarer ticks: a process that all this has slowed down, and that reads ten of them a second, never comes to the end of those
    # that have waited for too long.
    stack = make_stack(request.getfixturevalue(url), redis_url, horizon_ms=1000, lease_margin_s=6, tick_s=1.0)
    node = stack.worker(pool=pool)
    stack.beat()
    hostile = {
        (channel, misdeed): stack.enqueue(channel, payload={"misdeed": misdeed, "on": [1, 2]}, max_attempts=ATTEMPTS)[0]
        for misdeed in misdeeds
        for channel in (("wild", "wild-loop") if misdeed in SURVIVED else ("wild",))
    }
    neighbours = stack.enqueue("single", 20) + stack.enqueue("bulk", 100) + stack.enqueue("loop", 20)

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
    assert node.is_running()
    stack.was_sent_once(neighbours)
