import http.client
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aiohttp
import httpx
import pytest
import requests
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from outbox.codec import DecodeError
from outbox.errors import NotReady, OutcomeUnknown, PermanentFailure, RetryLater, Suppressed
from outbox.outcome import Deferred, Outcome, Rejected, Retry, Unknown, Withheld
from outbox.policy.classification import LONGEST_ERROR, classify, classify_status, describe, retry_after_ms, storable

NOW_MS = 1_795_000_000_000


@pytest.mark.parametrize(
    ("signal", "outcome"),
    [
        (RetryLater("busy"), Retry("busy")),
        (RetryLater("busy", after=1.5), Retry("busy", 1_500)),
        (RetryLater("busy", after=timedelta(minutes=2)), Retry("busy", 120_000)),
        (RetryLater("chat not found"), Retry("chat not found")),
        (PermanentFailure("no"), Rejected("no")),
        (PermanentFailure("gone", destination_gone=True), Rejected("gone", destination_gone=True)),
        (NotReady("connecting", after=7), Deferred("connecting", 7_000)),
        (OutcomeUnknown("no answer"), Unknown("no answer")),
        (Suppressed("nothing to say"), Withheld("nothing to say")),
    ],
)
def test_what_an_adapter_says_is_taken_at_its_word(signal: Exception, outcome: Outcome) -> None:
    assert classify(signal) == outcome


@pytest.mark.parametrize(
    "text",
    [
        "No conversation reference found",
        "Bad Request: chat not found",
        "user not found",
        "Forbidden: bot was blocked by the user",
        "forbidden: bot was kicked from the group chat",
        "chat_id is empty",
        "recipient is not a valid address",
        "ambiguous Slack recipient",
        "user alice not in room",
        "bot is not a member",
        "message is too long",
        "Invalid Form Body",
    ],
)
def test_texts_that_mean_never_are_permanent(text: str) -> None:
    assert classify(RuntimeError(text)) == Rejected(f"RuntimeError: {text}")


@pytest.mark.parametrize(
    "text",
    [
        "network down",
        "ETIMEDOUT",
        "socket hang up",
        "rate limited",
        "500 Internal Server Error",
        "ECONNREFUSED",
        "request timed out",
        "anything else",
    ],
)
def test_texts_that_say_nothing_of_never_are_transient(text: str) -> None:
    assert classify(RuntimeError(text)) == Retry(f"RuntimeError: {text}")


@pytest.mark.proves("T14")
def test_a_channel_that_is_not_configured_defers_and_destroys_nothing_t14() -> None:
    assert isinstance(classify(RuntimeError("Outbound not configured for channel: telegram")), Deferred)


def test_a_corrupt_row_fails_for_good_with_its_reason_r19() -> None:
    assert classify(DecodeError("Expecting value")) == Rejected("invalid payload: Expecting value")


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ([300, 304, 308, 400, 401, 402, 403, 404, 405, 406, 409, 410, 413, 418, 422, 451], Rejected),
        ([408, 425, 429, 500, 501, 503], Retry),
        ([101, 199, 502, 504, 505, 520, 599], Unknown),
    ],
)
def test_each_status_that_is_no_success_has_its_meaning(statuses: list[int], kind: type[Outcome]) -> None:
    for status in statuses:
        assert type(classify_status(status, "text")) is kind, status


def test_only_410_closes_the_destination() -> None:
    assert classify_status(410, "gone") == Rejected("gone", destination_gone=True)
    assert classify_status(404, "away") == Rejected("away", destination_gone=False)


class ResponseError(Exception):
    """As the usual clients raise it."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"status {status}")
        self.response = type("Response", (), {"status_code": status, "headers": headers or {}})()


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ResponseError(404), Rejected("ResponseError: status 404")),
        (ResponseError(503), Retry("ResponseError: status 503")),
        (ResponseError(429, {"Retry-After": "30"}), Retry("ResponseError: status 429", 30_000)),
        (ResponseError(429, {"Retry-After": "soon"}), Retry("ResponseError: status 429")),
        (ResponseError(502), Unknown("ResponseError: status 502")),
        (ResponseError(200), Retry("ResponseError: status 200")),
    ],
)
def test_a_status_that_an_exception_carries_decides(error: Exception, outcome: Outcome) -> None:
    assert classify(error) == outcome


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "refused"), RuntimeError("bug"), OSError("disk")])
def test_what_failed_before_a_byte_left_or_says_nothing_is_transient(error: Exception) -> None:
    assert isinstance(classify(error), Retry)


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(), ConnectionAbortedError(), BrokenPipeError()])
def test_what_may_have_failed_in_the_middle_of_a_request_is_unknown(error: Exception) -> None:
    assert isinstance(classify(error), Unknown)


@pytest.mark.parametrize(
    "error",
    [
        requests.ConnectTimeout(),
        urllib3.exceptions.ConnectTimeoutError(),
        urllib3.exceptions.NewConnectionError(None, "refused"),
        httpx.ConnectTimeout("slow"),
        httpx.ConnectError("refused"),
        httpx.PoolTimeout("busy"),
        aiohttp.ConnectionTimeoutError(),
        socket.gaierror(socket.EAI_NONAME, "unknown"),
        ssl.SSLCertVerificationError(),
    ],
)
def test_a_client_that_got_no_connection_sent_nothing(error: Exception) -> None:
    assert isinstance(classify(error), Retry)


@pytest.mark.parametrize(
    "error",
    [
        requests.ReadTimeout(),
        urllib3.exceptions.ReadTimeoutError(None, None, "slow"),
        urllib3.exceptions.ProtocolError("aborted"),
        httpx.ReadTimeout("slow"),
        httpx.WriteTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.WriteError("reset"),
        httpx.RemoteProtocolError("closed"),
        http.client.RemoteDisconnected(),
        http.client.IncompleteRead(b"half"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientOSError(),
        aiohttp.ClientPayloadError(),
    ],
)
def test_a_client_that_lost_its_connection_may_have_sent(error: Exception) -> None:
    assert isinstance(classify(error), Unknown)


def test_the_error_that_another_was_made_from_tells_and_one_that_was_merely_handled_does_not() -> None:
    made, unrelated = RuntimeError("sending failed"), KeyError("name")
    made.__cause__ = ConnectionResetError()
    unrelated.__context__ = TimeoutError("the cache is slow")
    assert isinstance(classify(made), Unknown)
    assert isinstance(classify(unrelated), Retry)


def test_an_error_that_is_its_own_cause_ends() -> None:
    error = RuntimeError("loop")
    error.__cause__ = ValueError(error)
    assert isinstance(classify(error), Retry)


@given(st.text())
def test_any_retry_after_header_is_read_or_ignored(header: str) -> None:
    wish = retry_after_ms(header, NOW_MS)
    assert wish is None or wish >= 0


@given(
    st.datetimes(
        min_value=datetime(1900, 1, 1),  # noqa: DTZ001 - what the strategy asks for
        timezones=st.just(UTC),
    )
)
def test_a_retry_after_date_is_counted_from_now_and_never_negative(moment: datetime) -> None:
    ahead = int((moment.replace(microsecond=0) - datetime.fromtimestamp(NOW_MS / 1000, UTC)).total_seconds()) * 1000
    assert retry_after_ms(format_datetime(moment, usegmt=True), NOW_MS) == max(0, ahead)


@pytest.mark.parametrize(
    "header", [None, "", "  ", "-1", "1.5", "soon", "٣", "Fri, 31 Dec 99999 23:59:59 GMT", "0, 0 0 0 0:0:0 +9999"]
)
def test_a_retry_after_that_means_nothing_is_ignored(header: str | None) -> None:
    assert retry_after_ms(header, NOW_MS) is None


def test_retry_after_in_seconds_may_have_any_number_of_digits() -> None:
    assert retry_after_ms(" 120 ", NOW_MS) == 120_000
    assert retry_after_ms("0", NOW_MS) == 0
    assert retry_after_ms("9" * 10_000, NOW_MS) == 999_999_999_999_000


@given(st.text())
def test_every_error_text_can_be_stored(text: str) -> None:
    stored = describe(RuntimeError(text))
    assert stored
    assert "\0" not in stored
    assert stored.encode("utf-8")
    assert len(stored) <= LONGEST_ERROR


def test_a_long_text_is_cut_and_shows_it() -> None:
    assert storable("x" * 5_000, 10) == "xxxxxxxxx…"
    assert storable("x" * 10, 10) == "x" * 10
