"""The seam for tracers: what they do around the work is done, and what fails in them fails nobody else."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import pytest

from outbox import NewMessage
from outbox.tracing import Enqueuing, Sending, Tracing


@dataclass
class Recording:
    """Remembers what it was called for, and fails where it is told to."""

    fails: str = ""
    seen: list[str] = field(default_factory=list)

    def enqueuing(self, enqueuing: Enqueuing) -> AbstractContextManager[object]:
        self._step("call")
        return self._around(f"{len(enqueuing.messages)} messages")

    def sending(self, sending: Sending) -> AbstractContextManager[object]:
        raise NotImplementedError

    @contextmanager
    def _around(self, what: str) -> Iterator[None]:
        self._step("enter")
        self.seen.append(what)
        try:
            yield
        except LookupError as error:
            self.seen.append(f"raised {error}")
            raise
        finally:
            self._step("exit")

    def _step(self, name: str) -> None:
        self.seen.append(name)
        if name == self.fails:
            raise RuntimeError("the collector is away")


def following(tracer: Recording) -> Tracing:
    tracing = Tracing()
    tracing.follow_with(tracer)
    return tracing


ENQUEUING = Enqueuing([NewMessage(channel="chat")])


def test_a_tracer_is_there_before_and_after_the_work() -> None:
    tracer = Recording()

    with following(tracer).enqueuing(ENQUEUING):
        tracer.seen.append("work")

    assert tracer.seen == ["call", "enter", "1 messages", "work", "exit"]


@pytest.mark.proves("T3")
@pytest.mark.parametrize("step", ["call", "enter", "exit"])
def test_a_tracer_that_fails_is_logged_and_the_work_is_done_once(step: str, caplog: pytest.LogCaptureFixture) -> None:
    tracer = Recording(fails=step)

    with caplog.at_level(logging.ERROR, logger="outbox"), following(tracer).enqueuing(ENQUEUING):
        tracer.seen.append("work")

    assert tracer.seen.count("work") == 1
    (record,) = caplog.records
    assert record.getMessage() == "the tracer failed"
    assert "the collector is away" in str(record.exc_info)


@pytest.mark.parametrize("step", ["", "call", "enter", "exit"])
def test_what_the_work_raises_stays_what_it_is_whatever_the_tracer_does(step: str) -> None:
    tracer = Recording(fails=step)

    with pytest.raises(KeyError, match="the order"), following(tracer).enqueuing(ENQUEUING):
        raise KeyError("the order")

    assert ("raised 'the order'" in tracer.seen) is (step in {"", "exit"})


def test_work_done_while_an_exception_is_handled_is_not_told_of_as_failed() -> None:
    tracer = Recording()

    try:
        raise KeyError("an earlier failure")
    except KeyError:
        with following(tracer).enqueuing(ENQUEUING):
            pass

    assert "raised 'an earlier failure'" not in tracer.seen


def test_without_a_tracer_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    with Tracing().enqueuing(ENQUEUING):
        pass

    assert caplog.records == []
