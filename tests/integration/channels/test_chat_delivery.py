"""Chat messages from the application's transaction to the service, through the outbox."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from outbox import Channel, Outbox
from outbox.errors import InvalidMessage
from outbox.lifecycle import Status
from tests.integration.channels.conftest import (
    DISCORD_TOKEN,
    SLACK_TOKEN,
    TELEGRAM_TOKEN,
    MakeDiscord,
    MakeSlack,
    MakeTelegram,
)
from tests.integration.channels.service import Service, say

TARGETS = {"telegram": "-1001234567890", "slack": "C1H9RESGL", "discord": "290926798999357250"}
TOKENS = {"telegram": TELEGRAM_TOKEN, "slack": SLACK_TOKEN, "discord": DISCORD_TOKEN}


@pytest.fixture
def channels(telegram: MakeTelegram, slack: MakeSlack, discord: MakeDiscord) -> dict[str, Channel]:
    return {"telegram": telegram(), "slack": slack(), "discord": discord()}


@pytest.fixture
def services(telegram_service: Service, slack_service: Service, discord_service: Service) -> dict[str, Service]:
    return {"telegram": telegram_service, "slack": slack_service, "discord": discord_service}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def opened(database: Path, channels: dict[str, Channel]) -> Outbox:
    outbox = Outbox(f"sqlite:///{database}", channels=list(channels.values()))
    outbox.upgrade_schema()
    return outbox


def enqueue(database: Path, outbox: Outbox, channel: str, payload: Any, **fields: Any) -> str:
    engine = create_engine(f"sqlite:///{database}")
    with Session(engine) as session, session.begin():
        queued = outbox.enqueue(session, channel, payload=payload, **{"target": TARGETS[channel], **fields})
    engine.dispose()
    return queued.id


@pytest.mark.proves("R13", "T36")
async def test_text_media_and_rich_payloads_reach_each_service_and_leave_its_id(
    database: Path, channels: dict[str, Channel], services: dict[str, Service], caplog: pytest.LogCaptureFixture
) -> None:
    rich = {
        "telegram": {"text": "<b>x</b>", "extra": {"parse_mode": "HTML"}},
        "slack": {"extra": {"blocks": [{"type": "divider"}]}},
        "discord": {"extra": {"embeds": [{"title": "x"}]}},
    }
    outbox = opened(database, channels)
    with caplog.at_level(logging.DEBUG):
        ids = [
            # Each to a chat of its own: one after the other would wait for the service's rate limit.
            enqueue(database, outbox, name, payload, target=f"{TARGETS[name]}{place}")
            for name in channels
            for place, payload in enumerate(("hello", {"media": [{"data": b"x", "name": "x.png"}]}, rich[name]))
        ]
        await asyncio.to_thread(outbox.drain)
    rows = [outbox.get(identity) for identity in ids]
    outbox.close()
    assert [row.status for row in rows] == [Status.DELIVERED] * 9
    assert all(row.receipt["provider_id"] for row in rows)
    kept = b"".join(file.read_bytes() for file in database.parent.iterdir()) + caplog.text.encode()
    assert b"1001" in kept
    assert not [name for name, token in TOKENS.items() if token.encode() in kept]


@pytest.mark.proves("R21")
@pytest.mark.parametrize("channel", TARGETS)
async def test_what_a_service_cannot_express_is_refused_in_the_callers_transaction(
    channel: str, database: Path, channels: dict[str, Channel], services: dict[str, Service]
) -> None:
    outbox = opened(database, channels)
    with pytest.raises(InvalidMessage, match="did you mean 'text'"):
        enqueue(database, outbox, channel, {"txt": "hello"})
    assert await asyncio.to_thread(outbox.drain) == 0
    outbox.close()


@pytest.mark.proves("T37", "R5")
@pytest.mark.parametrize("channel", TARGETS)
async def test_what_an_application_enqueued_without_knowing_the_channel_fails_for_good_with_the_reason(
    channel: str, database: Path, channels: dict[str, Channel], services: dict[str, Service]
) -> None:
    application = opened(database, {})
    identity = enqueue(database, application, channel, {"text": "x" * 40_001})
    application.close()
    worker = opened(database, channels)
    await asyncio.to_thread(worker.drain)
    row = worker.get(identity)
    worker.close()
    assert row.status is Status.FAILED_TERMINAL
    assert "40001 characters" in (row.last_error or "")
    assert services[channel].calls == []


@pytest.mark.proves("T40")
@pytest.mark.parametrize("channel", TARGETS)
async def test_a_reply_that_must_wait_holds_back_its_own_conversation_and_no_other(
    channel: str, database: Path, channels: dict[str, Channel], services: dict[str, Service]
) -> None:
    said: dict[str, Any] = {
        "telegram": {"ok": False, "error_code": 429, "description": "slow down", "parameters": {"retry_after": 60}},
        "slack": {"ok": False, "error": "ratelimited"},
        "discord": {"message": "slow down", "retry_after": 60, "global": False},
    }[channel]
    services[channel].answers = [say(429, said, {"Retry-After": "60"})]
    outbox = opened(database, channels)
    first, second = (enqueue(database, outbox, channel, text) for text in ("first", "second"))
    await asyncio.to_thread(outbox.drain)
    other = enqueue(database, outbox, channel, "other", target=f"{TARGETS[channel]}1")
    await asyncio.to_thread(outbox.drain)
    rows = {name: outbox.get(identity) for name, identity in (("first", first), ("second", second), ("other", other))}
    outbox.close()
    assert rows["first"].status is Status.FAILED_RETRYABLE
    assert rows["first"].next_attempt_at >= (rows["first"].last_attempt_at or 0) + 60_000
    assert rows["second"].attempt_count == 0
    assert rows["other"].status is Status.DELIVERED
    assert len(services[channel].calls) == 2
