import threading
import time
from typing import Any

import pytest

from outbox.inbox import Inbox
from outbox.message import Claim

CLAIMS = [Claim("m", 0)]
JOB: Any = object()


def test_what_comes_after_it_was_closed_is_refused() -> None:
    inbox = Inbox([])
    inbox.close()

    assert not inbox.put_answer(JOB, None)
    assert not inbox.put_claims(CLAIMS, lambda: True)
    assert list(inbox.answers()) == []
    assert list(inbox.claims()) == [[]]


def test_claims_keep_it_open() -> None:
    inbox = Inbox(CLAIMS)

    assert not inbox.close_unless_claims()
    assert inbox.put_answer(JOB, None)
    assert list(inbox.claims()) == [CLAIMS]
    assert inbox.close_unless_claims()


def test_the_loop_may_refuse_claims() -> None:
    inbox = Inbox([])

    assert not inbox.put_claims(CLAIMS, lambda: False)
    assert list(inbox.claims()) == [[]]


@pytest.mark.parametrize("news", ["answers", "claims"])
def test_a_wait_ends_when_there_is_enough(news: str) -> None:
    inbox = Inbox([])
    list(inbox.claims())
    waiting = threading.Thread(target=inbox.wait, args=(2, 60.0))
    waiting.start()

    inbox.put_answer(JOB, None)
    waiting.join(0.05)
    assert waiting.is_alive()
    if news == "answers":
        inbox.put_answer(JOB, None)
    else:
        inbox.put_claims(CLAIMS, lambda: True)

    waiting.join(5.0)
    assert not waiting.is_alive()


def test_news_that_were_taken_out_end_no_further_wait() -> None:
    """A loop that waits for others to leave it room would go round and round."""
    inbox = Inbox([])
    inbox.put_claims(CLAIMS, lambda: True)
    list(inbox.claims())
    began = time.monotonic()

    inbox.wait(1, 0.05)

    assert time.monotonic() - began >= 0.05
