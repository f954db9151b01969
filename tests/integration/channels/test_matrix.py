"""The client-server API at the wire: https://spec.matrix.org/latest/client-server-api/."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import pytest
from aiohttp import web
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from outbox import Outbox
from outbox.channels.matrix import Matrix
from outbox.errors import InvalidMessage
from outbox.lifecycle import Status
from outbox.message import NewMessage, Receipt
from outbox.outcome import Deferred, Delivered, Outcome, Rejected, Retry, Unknown
from tests.factories import message
from tests.integration.channels.service import LOOPBACK, Answer, Call, Service, outcome, say, serving

TOKEN = "syt_b3V0Ym94_XUtWcDZlbHBCQ2VsV1RQ_0Jb7aa"
ROOM = "!kQXJhGvLpRzTnYwMbs:example.org"
EVENT = "$15827405538098VGFWH:example.org"
OTHER_EVENT = "$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg"
PNG = b"\x89PNG\r\n" + bytes(range(256))


class MakeMatrix(Protocol):
    def __call__(self, **options: Any) -> Matrix: ...


@pytest.fixture
async def homeserver() -> AsyncIterator[Service]:
    """A homeserver: a transaction id that it knows is answered with the event that it made before."""
    ids, by_transaction = count(1), dict[str, str]()

    def refuse(status: int, code: str) -> web.Response:
        return web.json_response({"errcode": code, "error": "no"}, status=status)

    def answer(call: Call) -> web.Response:
        if call.headers.get("authorization") != f"Bearer {TOKEN}":
            return refuse(401, "M_UNKNOWN_TOKEN")
        match (call.method, call.path.split("/")[1:]):
            case ("POST", ["_matrix", "media", "v3", "upload"]):
                return web.json_response({"content_uri": f"mxc://example.org/file{next(ids)}"})
            case ("PUT", ["_matrix", "client", "v3", "rooms", room, "send", _, _]) if unquote(room) == ROOM:
                event_id = by_transaction.setdefault(call.path, f"${next(ids)}:example.org")
                return web.json_response({"event_id": event_id})
        return refuse(404, "M_UNRECOGNIZED")

    async with serving(answer) as service:
        yield service


@pytest.fixture
async def matrix(homeserver: Service) -> AsyncIterator[MakeMatrix]:
    async with AsyncExitStack() as stack:

        def make(**options: Any) -> Matrix:
            channel = Matrix(**{"token": TOKEN, "base_url": homeserver.url, **LOOPBACK, **options})
            stack.push_async_callback(channel.aclose)
            return channel

        yield make


async def send(channel: Matrix, payload: Any, **fields: Any) -> Outcome:
    return await outcome(channel, message(**{"channel": "matrix", "target": ROOM, "payload": payload, **fields}))


def refusal(status: int, code: str, headers: dict[str, str] | None = None, **said: Any) -> Answer:
    return say(status, {"errcode": code, "error": "as the test wants it", **said}, headers)


async def test_a_text_is_sent_and_its_events_id_kept(matrix: MakeMatrix, homeserver: Service) -> None:
    sent = await send(matrix(), "On its way – soon")
    assert sent == Delivered(Receipt("$1:example.org", {"room_id": ROOM}))
    call = homeserver.last
    before, _, transaction = call.path.rpartition("/")
    assert (call.method, unquote(before)) == ("PUT", f"/_matrix/client/v3/rooms/{ROOM}/send/m.room.message")
    assert transaction.startswith("outbox-")
    assert call.headers["authorization"] == f"Bearer {TOKEN}"
    assert call.fields == {"msgtype": "m.text", "body": "On its way – soon"}


@pytest.mark.proves("R12", "T28")
async def test_every_attempt_has_the_same_transaction_id_and_other_messages_another(
    matrix: MakeMatrix, homeserver: Service
) -> None:
    channel = matrix()
    first = await send(channel, "hello", idempotency_key="order 42/é")
    again = await send(channel, "hello", idempotency_key="order 42/é", attempt_count=2)
    other = await send(channel, "hello", idempotency_key="order 43/é")
    assert first == again != other
    assert "order" not in homeserver.last.path


@pytest.mark.proves("R2")
async def test_formatted_text_mentions_and_notices_go_out_as_they_are(matrix: MakeMatrix, homeserver: Service) -> None:
    extra = {"formatted_body": "<b>On</b> its way", "m.mentions": {"user_ids": ["@ann:example.org"]}}
    await send(matrix(), {"text": "On its way", "silent": True, "extra": extra})
    assert homeserver.last.fields == {
        "msgtype": "m.notice",
        "body": "On its way",
        "format": "org.matrix.custom.html",
        **extra,
    }


async def test_another_event_than_a_message_holds_what_extra_holds(matrix: MakeMatrix, homeserver: Service) -> None:
    relation = {"rel_type": "m.annotation", "event_id": EVENT, "key": "👍"}
    await send(matrix(), {"extra": {"event_type": "m.reaction", "m.relates_to": relation}})
    assert homeserver.last.path.split("/")[-2] == "m.reaction"
    assert homeserver.last.fields == {"m.relates_to": relation}
    when = datetime(2026, 11, 25, 9, 30)  # noqa: DTZ001
    await send(matrix(), {"extra": {"event_type": "org.example.order", "order": 42, "when": when}})
    assert homeserver.last.fields == {"order": 42, "when": "2026-11-25T09:30:00"}


@pytest.mark.proves("R2")
@pytest.mark.parametrize(
    ("place", "relation"),
    [
        ({"reply_to": EVENT}, {"m.in_reply_to": {"event_id": EVENT}}),
        (
            {"thread_id": EVENT},
            {"rel_type": "m.thread", "event_id": EVENT, "is_falling_back": True, "m.in_reply_to": {"event_id": EVENT}},
        ),
        (
            {"thread_id": EVENT, "reply_to": OTHER_EVENT},
            {"rel_type": "m.thread", "event_id": EVENT, "is_falling_back": False, "m.in_reply_to": {"event_id": OTHER_EVENT}},
        ),
    ],
)
async def test_replies_and_threads_are_relations(
    place: dict[str, str], relation: dict[str, Any], matrix: MakeMatrix, homeserver: Service
) -> None:
    await send(matrix(), {"text": "yes", **place})
    assert homeserver.last.fields["m.relates_to"] == relation


@pytest.mark.parametrize(
    ("media", "msgtype", "kind", "name"),
    [
        ({"data": PNG, "name": "Bild № 1.png"}, "m.image", "image/png", "Bild № 1.png"),
        ({"data": PNG, "type": "audio/ogg"}, "m.audio", "audio/ogg", "file0.oga"),
        ({"data": PNG, "type": "video/mp4"}, "m.video", "video/mp4", "file0.mp4"),
        ({"data": PNG, "name": "data"}, "m.file", "application/octet-stream", "data"),
    ],
)
async def test_a_file_is_uploaded_unseen_and_shown_with_the_text_by_one_event(
    media: dict[str, Any], msgtype: str, kind: str, name: str, matrix: MakeMatrix, homeserver: Service
) -> None:
    sent = await send(matrix(), {"text": "Look", "media": [media], "extra": {"info": {"w": 640}}})
    assert isinstance(sent, Delivered)
    upload, event = homeserver.calls
    assert (upload.method, upload.path, upload.body) == ("POST", "/_matrix/media/v3/upload", PNG)
    assert upload.headers["content-type"] == kind
    assert event.fields == {
        "msgtype": msgtype,
        "body": "Look",
        "filename": name,
        "url": "mxc://example.org/file1",
        "info": {"mimetype": kind, "size": len(PNG), "w": 640},
    }


async def test_what_was_uploaded_before_is_named_by_its_address(matrix: MakeMatrix, homeserver: Service) -> None:
    await send(matrix(), {"media": [{"url": "mxc://example.org/abc", "type": "image/png", "name": "a.png"}]})
    assert len(homeserver.calls) == 1
    assert homeserver.last.fields["url"] == "mxc://example.org/abc"
    assert homeserver.last.fields["body"] == homeserver.last.fields["filename"] == "a.png"


@pytest.mark.proves("R15", "T32")
async def test_whatever_befalls_an_upload_nothing_was_shown_and_it_is_tried_again(
    matrix: MakeMatrix, homeserver: Service
) -> None:
    for answer in (
        say(200, {}),
        say(504, "<html>time-out</html>"),
        refusal(500, "M_UNKNOWN"),
        refusal(429, "M_LIMIT_EXCEEDED"),
    ):
        homeserver.answers = [answer]
        assert isinstance(await send(matrix(), {"media": [{"data": PNG}]}), Retry)
    assert {call.method for call in homeserver.calls} == {"POST"}


async def test_a_file_that_the_homeserver_finds_too_large_fails_for_good(matrix: MakeMatrix, homeserver: Service) -> None:
    homeserver.answers = [refusal(413, "M_TOO_LARGE")]
    failed = await send(matrix(), {"media": [{"data": PNG}]})
    assert failed == Rejected("Matrix: M_TOO_LARGE as the test wants it")


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "M_FORBIDDEN"), (404, "M_NOT_FOUND"), (400, "M_BAD_JSON"), (413, "M_TOO_LARGE"), (403, "M_USER_SUSPENDED")],
)
async def test_what_the_homeserver_refuses_fails_for_good_with_its_words(
    status: int, code: str, matrix: MakeMatrix, homeserver: Service
) -> None:
    homeserver.answers = [refusal(status, code)]
    assert await send(matrix(), "hello") == Rejected(f"Matrix: {code} as the test wants it")


@pytest.mark.parametrize(
    ("answer", "wait_ms"),
    [
        (refusal(429, "M_LIMIT_EXCEEDED", retry_after_ms=2000), 2000),
        (refusal(429, "M_LIMIT_EXCEEDED", {"Retry-After": "3"}), 3000),
        (refusal(429, "M_LIMIT_EXCEEDED"), None),
        (refusal(403, "M_RESOURCE_LIMIT_EXCEEDED"), None),
        (refusal(500, "M_UNKNOWN"), None),
    ],
)
async def test_what_passes_is_tried_again_when_the_homeserver_says(
    answer: Answer, wait_ms: int | None, matrix: MakeMatrix, homeserver: Service
) -> None:
    homeserver.answers = [answer]
    failed = await send(matrix(), "hello")
    assert isinstance(failed, Retry)
    assert failed.after_ms == wait_ms


@pytest.mark.proves("T14")
async def test_a_token_that_has_ended_defers_the_channel_and_with_several_accounts_only_its_own_messages(
    matrix: MakeMatrix, homeserver: Service
) -> None:
    assert isinstance(await send(matrix(token=TOKEN[::-1]), "hello"), Deferred)
    several = matrix(accounts={"old": {"token": TOKEN[::-1]}})
    failed = await send(several, "hello", account_id="old")
    assert isinstance(failed, Retry)
    assert TOKEN[::-1] not in failed.error
    assert isinstance(await send(several, "hello"), Delivered)


@pytest.mark.parametrize(
    "answer",
    [
        say(502, "<html>"),
        say(504, "<html>"),
        say(200, "<html>"),
        say(200, {"room_id": ROOM}),
        say(200, {"errcode": "M_LIMIT_EXCEEDED"}),
    ],
)
async def test_without_a_clear_answer_the_outcome_is_unknown(answer: Answer, matrix: MakeMatrix, homeserver: Service) -> None:
    homeserver.answers = [answer]
    assert isinstance(await send(matrix(), "hello"), Unknown)


@pytest.mark.proves("R20", "R21", "T37")
@pytest.mark.parametrize(
    ("target", "payload", "complaint"),
    [
        ("#town:example.org", "hello", "the target is not a room's id"),
        ("@ann:example.org", "hello", "the target is not a room's id"),
        (ROOM, "  ", "nothing to show"),
        (ROOM, {"text": "x", "reply_to": 42}, "must be an event's id"),
        (ROOM, {"text": "x", "thread_id": "42"}, "must be an event's id"),
        (ROOM, {"text": "x" * 15_001}, "15001 characters"),
        (ROOM, {"text": "x", "extra": {"formatted_body": "é" * 30_000}}, "the event's content takes 6"),
        (ROOM, {"text": "x", "extra": {"price": 1.5}}, "whole numbers"),
        (ROOM, {"text": "x", "extra": {"n": {"deep": [2**53]}}}, "whole numbers"),
        (ROOM, {"text": "x", "extra": {"body": "y"}}, "extra may not hold 'body'"),
        (ROOM, {"text": "x", "extra": {"event_type": "m room"}}, "must be a name"),
        (ROOM, {"text": "x", "extra": {"formatted_body": 7}}, "formatted_body in extra is a int"),
        (ROOM, {"text": "x", "reply_to": EVENT, "extra": {"m.relates_to": {}}}, "beside a thread_id or reply_to"),
        (ROOM, {"media": ["https://shop.example/a.png"]}, "fetches no media"),
        (ROOM, {"media": [{"data": PNG}, {"data": PNG}]}, "holds one file"),
        (ROOM, {"media": [{"data": b""}]}, "0 bytes"),
    ],
)
def test_what_an_event_cannot_express_is_refused_at_enqueue(target: str, payload: Any, complaint: str) -> None:
    channel = Matrix(token=TOKEN, base_url="https://matrix.example.org")
    with pytest.raises(InvalidMessage, match=complaint):
        channel.check_message(NewMessage(channel="matrix", target=target, payload=payload))


async def test_rooms_of_the_newest_version_are_named_without_a_server() -> None:
    channel = Matrix(token=TOKEN, base_url="https://matrix.example.org")
    room = "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"
    channel.check_message(NewMessage(channel="matrix", target=room, payload="hello"))


@pytest.mark.proves("R13", "R14")
async def test_a_reply_goes_through_the_outbox_in_parts_and_leaves_no_token_behind(
    tmp_path: Path, matrix: MakeMatrix, homeserver: Service
) -> None:
    outbox = Outbox(f"sqlite:///{tmp_path}/outbox.db", channels=[matrix(target_rate_limit=None)])
    outbox.upgrade_schema()
    engine = create_engine(f"sqlite:///{tmp_path}/outbox.db")
    with Session(engine) as session, session.begin():
        parts = ["word " * 4000, {"media": [{"data": PNG, "name": "a.png"}]}]
        queued = outbox.enqueue_reply(session, "matrix", target=ROOM, parts=parts, reply_to=EVENT)
    engine.dispose()
    await asyncio.to_thread(outbox.drain)
    rows = [outbox.get(each.id) for each in queued]
    outbox.close()
    assert [row.status for row in rows] == [Status.DELIVERED] * 3
    events = [call.fields for call in homeserver.calls if call.method == "PUT"]
    assert ["m.relates_to" in event for event in events] == [True, False, False]
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert TOKEN.encode() not in kept
    assert json.loads(rows[0].receipt_json or "")["provider_id"].startswith("$")
