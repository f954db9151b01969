"""Mail from the application's transaction to the server, through the outbox."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from outbox import Outbox
from outbox.channels.email import Email
from outbox.errors import InvalidMessage
from outbox.lifecycle import Status
from tests.integration.email.conftest import ANN, SENDER
from tests.integration.email.post_office import Act, PostOffice


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def opened(database: Path) -> Iterator[Any]:
    """Opens outboxes on one database, and closes them."""
    outboxes = []

    def open_outbox(*channels: Email) -> Outbox:
        outbox = Outbox(f"sqlite:///{database}", channels=list(channels))
        outbox.upgrade_schema()
        outboxes.append(outbox)
        return outbox

    yield open_outbox
    for outbox in outboxes:
        outbox.close()


def enqueue(database: Path, outbox: Outbox, payload: Any, **fields: Any) -> str:
    engine = create_engine(f"sqlite:///{database}")
    with Session(engine) as session, session.begin():
        queued = outbox.enqueue(session, "email", payload=payload, **{"target": ANN, **fields})
    engine.dispose()
    return queued.id


def in_the_clear(office: PostOffice, **options: Any) -> Email:
    return Email(host="127.0.0.1", port=office.port, security="none", sender=SENDER, local_hostname="worker.example", **options)


@pytest.mark.proves("R13", "R12")
async def test_text_media_and_rich_payloads_reach_the_server_and_leave_their_ids(
    database: Path, opened: Any, post_office: PostOffice, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = opened(in_the_clear(post_office))
    payloads = ("hello", {"media": [{"data": b"x", "name": "x.png"}]}, {"subject": "s", "html": "<b>x</b>", "text": "x"})
    with caplog.at_level(logging.DEBUG, "outbox"):
        ids = [enqueue(database, outbox, payload, target=f"ann{place}@example.com") for place, payload in enumerate(payloads)]
        assert await asyncio.to_thread(outbox.drain) == 3
    rows = [outbox.get(identity) for identity in ids]
    assert [row.status for row in rows] == [Status.DELIVERED] * 3
    assert {row.receipt["provider_id"] for row in rows} == {mail.message["Message-ID"] for mail in post_office.mails}
    assert {row.receipt["details"]["answer"] for row in rows} == {f"2.0.0 Ok: queued as Q000{number}" for number in (1, 2, 3)}
    assert "@example.com" not in caplog.text


@pytest.mark.proves("R21")
async def test_what_is_no_mail_is_refused_in_the_callers_transaction(
    database: Path, opened: Any, post_office: PostOffice
) -> None:
    outbox = opened(in_the_clear(post_office))
    with pytest.raises(InvalidMessage, match="channel 'email'"):
        enqueue(database, outbox, {"text": "x", "subject": "x\r\nBcc: spy@example.com"})
    assert await asyncio.to_thread(outbox.drain) == 0


@pytest.mark.proves("T37", "R5")
async def test_what_an_application_enqueued_without_knowing_the_channel_fails_for_good_with_the_reason(
    database: Path, opened: Any, post_office: PostOffice
) -> None:
    identity = enqueue(database, opened(), {"text": "x"}, target="ann at example.com")
    worker = opened(in_the_clear(post_office))
    await asyncio.to_thread(worker.drain)
    row = worker.get(identity)
    assert row.status is Status.FAILED_TERMINAL
    assert "the target is not a list of addresses" in (row.last_error or "")
    assert post_office.connections == 0


@pytest.mark.proves("R15", "R12")
async def test_a_lost_answer_brings_the_same_message_id_again_and_a_partial_refusal_brings_nothing_again(
    database: Path, opened: Any, post_office: PostOffice
) -> None:
    outbox = opened(in_the_clear(post_office, backoff=[0.01]))
    post_office.refused = {"bob@example.com": "550 5.1.1 unknown"}
    post_office.reactions["content"] = [Act.DROP]
    identity = enqueue(database, outbox, "once", target=f"{ANN}, bob@example.com", idempotency_key="order.42")
    await asyncio.to_thread(outbox.drain)
    while (row := outbox.get(identity)).status is not Status.DELIVERED:
        assert (row.status, row.error_class) == (Status.FAILED_RETRYABLE, "unknown")
        await asyncio.to_thread(outbox.drain)
    assert row.attempt_count == 2
    assert row.receipt["details"]["refused"] == [{"recipient": "bob@example.com", "code": 550, "text": "5.1.1 unknown"}]
    assert post_office.last.message["Message-ID"] == row.receipt["provider_id"]
    assert await asyncio.to_thread(outbox.drain) == 0
    assert len(post_office.mails) == 1


@pytest.mark.proves("T14")
async def test_a_wrong_login_costs_no_attempt_and_the_message_goes_when_it_is_right(
    database: Path, opened: Any, post_office: PostOffice
) -> None:
    post_office.reactions["MAIL"] = ["530 5.7.0 log in first"]
    outbox = opened(in_the_clear(post_office))
    identity = enqueue(database, outbox, "hello")
    await asyncio.to_thread(outbox.drain)
    row = outbox.get(identity)
    assert (row.status, row.attempt_count) == (Status.QUEUED, 0)


async def test_a_server_that_keeps_its_answer_leaves_an_unknown_outcome(
    database: Path, opened: Any, post_office: PostOffice
) -> None:
    post_office.reactions["content"] = [Act.HANG]
    outbox = opened(in_the_clear(post_office, timeout=5.0, on_unknown="park"))
    identity = enqueue(database, outbox, "hello")
    await asyncio.to_thread(outbox.drain)
    row = outbox.get(identity)
    assert (row.status, row.error_class) == (Status.PARKED, "unknown")
