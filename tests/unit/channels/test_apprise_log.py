"""What apprise's log says of a send to which it said no."""

import logging

import pytest

from outbox.channels.apprise_log import Line, failure
from outbox.errors import DeliverySignal, OutcomeUnknown, PermanentFailure, RetryLater

SENT = Line(logging.INFO, "Sent X notification.")
POSTED = Line(logging.DEBUG, "X POST URL: https://x.example/sw0rdf1sh")
BROKEN = Line(logging.WARNING, "A Connection error occurred sending X notification.")
REFUSED = Line(logging.DEBUG, "Socket Exception: ... (Caused by NewConnectionError('...: Connection refused'))")
TIMED_OUT = Line(logging.DEBUG, "Socket Exception: HTTPConnectionPool(host='x'): Read timed out. (read timeout=4.0)")


def refused(status: int) -> Line:
    return Line(logging.WARNING, f"Failed to send X notification: Some words, error={status}.")


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ([POSTED, refused(404)], PermanentFailure),
        ([POSTED, refused(503)], RetryLater),
        ([POSTED, refused(502)], OutcomeUnknown),
        ([refused(200)], OutcomeUnknown),
        ([refused(503), refused(404)], OutcomeUnknown),
        ([refused(503), refused(503)], RetryLater),
        ([Line(logging.DEBUG, "error=404")], OutcomeUnknown),
        ([POSTED, BROKEN, REFUSED], RetryLater),
        ([POSTED, BROKEN, TIMED_OUT], OutcomeUnknown),
        ([], OutcomeUnknown),
    ],
)
def test_a_status_decides_then_whether_there_was_a_connection(lines: list[Line], kind: type[DeliverySignal]) -> None:
    assert type(failure(lines, [], several_requests=False)) is kind


@pytest.mark.proves("R15", "T32")
@pytest.mark.parametrize("failed", [[refused(503)], [refused(502)], [BROKEN, REFUSED], [BROKEN, TIMED_OUT], []])
def test_after_a_part_was_taken_nothing_is_sent_again(failed: list[Line]) -> None:
    assert isinstance(failure([SENT, *failed], [], several_requests=False), PermanentFailure)
    assert isinstance(failure([POSTED, POSTED, *failed], [], several_requests=True), PermanentFailure)


def test_a_service_that_logs_in_first_may_be_asked_again_about_a_text() -> None:
    assert isinstance(failure([POSTED, POSTED, refused(503)], [], several_requests=False), RetryLater)


def test_the_reason_is_the_warnings_in_one_line_without_secrets() -> None:
    lines = [POSTED, Line(logging.WARNING, "Failed for sw0rdf1sh\r\nat x.example"), BROKEN, TIMED_OUT]
    told = str(failure(lines, ["x.example", "sw0rdf1sh"], several_requests=False))
    assert told == "Failed for [removed] at [removed]; A Connection error occurred sending X notification."
    assert str(failure([POSTED], ["sw0rdf1sh"], several_requests=False)) == "apprise gave no reason"
