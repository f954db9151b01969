"""Chat services on loopback that answer as the documentation of the real ones says, and channels that may reach them."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count
from typing import Any, Protocol

import pytest
from aiohttp import web

from outbox.channels.discord import Discord
from outbox.channels.slack import Slack
from outbox.channels.telegram import Telegram
from tests.integration.channels.service import LOOPBACK, Call, Service, serving

TELEGRAM_TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
SLACK_TOKEN = "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOcBrzbqgy"
DISCORD_TOKEN = "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs-abcdefghij"


class MakeTelegram(Protocol):
    def __call__(self, **options: Any) -> Telegram: ...


class MakeSlack(Protocol):
    def __call__(self, **options: Any) -> Slack: ...


class MakeDiscord(Protocol):
    def __call__(self, **options: Any) -> Discord: ...


@pytest.fixture
async def telegram_service() -> AsyncIterator[Service]:
    """The Bot API: the token is in the path, and an album comes back as several messages."""
    ids = count(1001)

    def answer(call: Call) -> web.Response:
        token, _, method = call.path.removeprefix("/bot").partition("/")
        if token != TELEGRAM_TOKEN:
            return web.json_response({"ok": False, "error_code": 401, "description": "Unauthorized"}, status=401)
        media = call.fields.get("media", [None])
        items = json.loads(media) if isinstance(media, str) else media
        sent = [{"message_id": next(ids), "date": 1, "chat": {"id": call.fields["chat_id"]}} for _ in items]
        return web.json_response({"ok": True, "result": sent if method == "sendMediaGroup" else sent[0]})

    async with serving(answer) as service:
        yield service


@pytest.fixture
async def telegram(telegram_service: Service) -> AsyncIterator[MakeTelegram]:
    async with AsyncExitStack() as stack:

        def make(**options: Any) -> Telegram:
            defaults = {"token": TELEGRAM_TOKEN, "base_url": telegram_service.url}
            channel = Telegram(**{**defaults, **LOOPBACK, **options})
            stack.push_async_callback(channel.aclose)
            return channel

        yield make


@pytest.fixture
async def slack_service() -> AsyncIterator[Service]:
    """The Web API: the token is a header, errors have the status 200, and files take three calls."""
    ids, uploaded = count(1), dict[str, int]()

    def answer(call: Call) -> web.Response:
        file = call.path.rpartition("/")[2]
        if call.path.startswith("/upload/"):
            complete = len(call.body) == uploaded[file]
            return web.Response(text=f"OK - {len(call.body)}") if complete else web.Response(status=400)
        if call.headers.get("authorization") != f"Bearer {SLACK_TOKEN}":
            return web.json_response({"ok": False, "error": "invalid_auth"})
        match call.path:
            case "/chat.postMessage":
                ts = f"1503435956.{next(ids):06}"
                return web.json_response({"ok": True, "channel": "C1H9RESGL", "ts": ts, "message": {"ts": ts}})
            case "/files.getUploadURLExternal":
                file = f"F{next(ids):08}"
                uploaded[file] = int(call.fields["length"])
                return web.json_response({"ok": True, "upload_url": f"{service.url}/upload/{file}", "file_id": file})
            case "/files.completeUploadExternal" if all(file["id"] in uploaded for file in call.fields["files"]):
                return web.json_response({"ok": True, "files": call.fields["files"]})
        return web.json_response({"ok": False, "error": "unknown_method"})

    async with serving(answer) as service:
        yield service


@pytest.fixture
async def slack(slack_service: Service) -> AsyncIterator[MakeSlack]:
    async with AsyncExitStack() as stack:

        def make(**options: Any) -> Slack:
            channel = Slack(**{"token": SLACK_TOKEN, "base_url": slack_service.url, **LOOPBACK, **options})
            stack.push_async_callback(channel.aclose)
            return channel

        yield make


@pytest.fixture
async def discord_service() -> AsyncIterator[Service]:
    """The REST API: a nonce that is enforced is answered with the message that it made before."""
    ids, by_nonce = count(1103999888777666555), dict[str, str]()

    def answer(call: Call) -> web.Response:
        if call.headers.get("authorization") != f"Bot {DISCORD_TOKEN}":
            return web.json_response({"message": "401: Unauthorized", "code": 0}, status=401)
        fields = json.loads(call.fields["payload_json"]) if "payload_json" in call.fields else call.fields
        identity = str(next(ids))
        if fields.get("enforce_nonce"):
            identity = by_nonce.setdefault(fields["nonce"], identity)
        return web.json_response({"id": identity, "channel_id": call.path.split("/")[2], "nonce": fields.get("nonce")})

    async with serving(answer) as service:
        yield service


@pytest.fixture
async def discord(discord_service: Service) -> AsyncIterator[MakeDiscord]:
    async with AsyncExitStack() as stack:

        def make(**options: Any) -> Discord:
            channel = Discord(**{"token": DISCORD_TOKEN, "base_url": discord_service.url, **LOOPBACK, **options})
            stack.push_async_callback(channel.aclose)
            return channel

        yield make
