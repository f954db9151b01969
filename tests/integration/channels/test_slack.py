"""The Web API at the wire: https://docs.slack.dev/reference/methods."""

from typing import Any

import pytest

from outbox.message import Receipt
from outbox.outcome import Delivered, Outcome, Rejected, Retry, Unknown
from tests.factories import message
from tests.integration.channels.conftest import SLACK_TOKEN, MakeSlack
from tests.integration.channels.service import Answer, Service, outcome, say

CONVERSATION = "C1H9RESGL"
TS = "1782584644.377229"
PDF = b"%PDF-1.7" + bytes(range(256))


async def send(channel: Any, payload: Any, **fields: Any) -> Outcome:
    return await outcome(channel, message(**{"channel": "slack", "target": CONVERSATION, "payload": payload, **fields}))


def refusal(error: str, **said: Any) -> Answer:
    return say(200, {"ok": False, "error": error, **said})


async def test_a_text_is_posted_and_its_ts_kept(slack: MakeSlack, slack_service: Service) -> None:
    sent = await send(slack(), {"text": "On its way – *soon*"})
    assert sent == Delivered(Receipt("1503435956.000001", {"channel": CONVERSATION}))
    call = slack_service.last
    assert (call.method, call.path) == ("POST", "/chat.postMessage")
    assert call.headers["authorization"] == f"Bearer {SLACK_TOKEN}"
    assert call.headers["content-type"] == "application/json; charset=utf-8"
    assert call.fields == {"channel": CONVERSATION, "text": "On its way – *soon*"}


@pytest.mark.proves("R2")
async def test_blocks_threads_and_options_go_out_as_they_are(slack: MakeSlack, slack_service: Service) -> None:
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "*On its way*"}}]
    extra = {"blocks": blocks, "unfurl_links": False, "metadata": {"event_type": "shipped", "event_payload": {"order": 42}}}
    await send(slack(), {"text": "On its way", "thread_id": TS, "extra": extra}, target="#orders")
    assert slack_service.last.fields == {"channel": "#orders", "text": "On its way", "thread_ts": TS, **extra}


async def test_blocks_need_no_text(slack: MakeSlack, slack_service: Service) -> None:
    await send(slack(), {"extra": {"blocks": [{"type": "divider"}]}})
    assert slack_service.last.fields == {"channel": CONVERSATION, "blocks": [{"type": "divider"}]}


@pytest.mark.parametrize(
    ("thread_id", "reply_to", "thread_ts"),
    [(None, TS, TS), (TS, None, TS), (TS, "1782584999.000001", TS)],
)
async def test_a_reply_is_a_message_in_the_thread(
    thread_id: str | None, reply_to: str | None, thread_ts: str, slack: MakeSlack, slack_service: Service
) -> None:
    await send(slack(), {"text": "yes", "thread_id": thread_id, "reply_to": reply_to})
    assert slack_service.last.fields["thread_ts"] == thread_ts


async def test_media_by_url_are_attachments_after_the_payloads_own(slack: MakeSlack, slack_service: Service) -> None:
    media = [
        {"url": "https://shop.example/chart.png", "caption": "Sales"},
        "https://shop.example/files/invoice%2042.pdf",
    ]
    sent = await send(slack(), {"text": "Look", "media": media, "extra": {"attachments": [{"text": "first"}]}, "silent": True})
    assert isinstance(sent, Delivered)
    assert slack_service.last.fields == {
        "channel": CONVERSATION,
        "text": "Look",
        "attachments": [
            {"text": "first"},
            {"fallback": "Sales", "image_url": "https://shop.example/chart.png", "text": "Sales"},
            {
                "fallback": "invoice 42.pdf",
                "title": "invoice 42.pdf",
                "title_link": "https://shop.example/files/invoice%2042.pdf",
            },
        ],
    }


@pytest.mark.proves("R15", "T32")
async def test_files_are_uploaded_unseen_and_shown_with_the_text_by_the_last_call(
    slack: MakeSlack, slack_service: Service
) -> None:
    media = [{"data": PDF, "name": "Rechnung № 42.pdf", "caption": "Invoice"}, {"data": b"a,b\n", "type": "text/csv"}]
    sent = await send(slack(), {"text": "As promised", "media": media, "thread_id": TS})
    assert sent == Delivered(Receipt("F00000001", {"channel": CONVERSATION, "files": ["F00000001", "F00000002"]}))

    ask, upload, ask_again, upload_again, show = slack_service.calls
    assert ask.path == ask_again.path == "/files.getUploadURLExternal"
    assert ask.fields == {"filename": "Rechnung № 42.pdf", "length": str(len(PDF)), "alt_txt": "Invoice"}
    assert ask_again.fields == {"filename": "file1.csv", "length": "4"}
    assert (upload.path, upload.body, upload.headers["content-type"]) == ("/upload/F00000001", PDF, "application/pdf")
    assert upload_again.body == b"a,b\n"
    assert show.path == "/files.completeUploadExternal"
    assert show.fields == {
        "files": [{"id": "F00000001", "title": "Invoice"}, {"id": "F00000002", "title": "file1.csv"}],
        "channel_id": CONVERSATION,
        "initial_comment": "As promised",
        "thread_ts": TS,
    }


async def test_the_token_is_not_shown_to_the_host_that_takes_the_files(slack: MakeSlack, slack_service: Service) -> None:
    await send(slack(), {"media": [{"data": PDF}]})
    uploads = [call for call in slack_service.calls if call.path.startswith("/upload/")]
    assert len(uploads) == 1
    assert "authorization" not in uploads[0].headers
    assert SLACK_TOKEN not in str(uploads[0])


async def test_files_are_not_taken_to_an_address_that_is_not_allowed(slack: MakeSlack, slack_service: Service) -> None:
    ticket = {"ok": True, "upload_url": "http://169.254.169.254/latest/meta-data", "file_id": "F1"}
    slack_service.answers = [say(200, ticket)]
    refused = await send(slack(), {"media": [{"data": PDF}]})
    assert isinstance(refused, Rejected)
    assert "169.254.169.254 leads to" in refused.error


@pytest.mark.parametrize(
    "answers",
    [
        [refusal("internal_error")],
        [say(200, "<html>maintenance</html>")],
        [say(200, {"ok": True})],
        [say(504, "<html>gateway time-out</html>")],
        [None, say(502, "<html>bad gateway</html>")],
        [None, say(500, "failed")],
    ],
)
async def test_whatever_befalls_an_upload_nothing_was_shown_and_it_is_tried_again(
    answers: list[Answer | None], slack: MakeSlack, slack_service: Service
) -> None:
    slack_service.answers = [answer or slack_service.answer for answer in answers]
    assert isinstance(await send(slack(), {"media": [{"data": PDF}]}), Retry)


@pytest.mark.proves("R15", "T32")
async def test_when_the_call_that_shows_the_files_gets_no_clear_answer_the_outcome_is_unknown(
    slack: MakeSlack, slack_service: Service
) -> None:
    slack_service.answers = [slack_service.answer, slack_service.answer, say(504, "<html>time-out</html>")]
    assert isinstance(await send(slack(), {"media": [{"data": PDF}]}), Unknown)


@pytest.mark.parametrize(
    "error",
    ["channel_not_found", "not_in_channel", "is_archived", "msg_too_long", "no_text", "restricted_action", "invalid_auth",
     "account_inactive", "token_revoked", "token_expired", "too_many_attachments", "invalid_blocks", "some_error_to_come"],
)  # fmt: skip
async def test_a_refusal_is_permanent_although_its_status_is_200(error: str, slack: MakeSlack, slack_service: Service) -> None:
    slack_service.answers = [refusal(error)]
    assert await send(slack(), "hello") == Rejected(f"Slack: {error}")


async def test_what_slack_adds_to_an_error_is_kept(slack: MakeSlack, slack_service: Service) -> None:
    slack_service.answers = [
        refusal("missing_scope", needed="chat:write", provided="channels:read"),
        refusal("invalid_blocks", response_metadata={"messages": ["[ERROR] missing required field: type"]}),
    ]
    assert await send(slack(), "hello") == Rejected("Slack: missing_scope: chat:write")
    assert await send(slack(), "hello") == Rejected("Slack: invalid_blocks: [ERROR] missing required field: type")


async def test_a_rate_limit_says_how_long_to_wait(slack: MakeSlack, slack_service: Service) -> None:
    slack_service.answers = [say(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "30"})]
    assert await send(slack(), "hello") == Retry("Slack: ratelimited", after_ms=30_000)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal("rate_limited"), Retry),
        (refusal("message_limit_exceeded"), Retry),
        (refusal("service_unavailable"), Retry),
        (refusal("request_timeout"), Retry),
        (refusal("team_added_to_org"), Retry),
        # "It's possible some aspect of the operation succeeded before the error was raised."
        (refusal("internal_error"), Unknown),
        (refusal("fatal_error"), Unknown),
        (say(503, {"ok": False, "error": "something_else"}), Retry),
        (say(504, {"ok": False, "error": "something_else"}), Unknown),
        (say(429, "<html>slow down</html>", {"Retry-After": "5"}), Retry),
        (say(503, "<html>maintenance</html>"), Retry),
        (say(403, "<html>forbidden by proxy</html>"), Rejected),
        (say(200, "<html>Please log in to this network</html>"), Unknown),
        (say(200, {"ok": False}), Unknown),
        (say(200, {"ts": TS}), Unknown),
        (say(200, ["ok"]), Unknown),
    ],
)
async def test_other_answers_come_to_what_they_mean(
    answer: Answer, kind: type[Outcome], slack: MakeSlack, slack_service: Service
) -> None:
    slack_service.answers = [answer]
    assert isinstance(await send(slack(), "hello"), kind)


async def test_the_account_chooses_the_workspace(slack: MakeSlack, slack_service: Service) -> None:
    channel = slack(token=None, accounts={"acme": {"token": SLACK_TOKEN}})
    assert isinstance(await send(channel, "hello", account_id="acme"), Delivered)
    assert await send(channel, "hello") == Rejected("no account '' is configured (configured: 'acme')")
