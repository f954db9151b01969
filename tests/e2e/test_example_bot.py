"""The bot and its receiver by themselves: what a reader of their code is led to believe."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from flask.testing import FlaskClient
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session
from standardwebhooks import Webhook

from examples.flask_bot import bot, receiver
from examples.flask_bot.ledger import Ledger, Verdict
from examples.flask_bot.replies import reply_to
from examples.flask_bot.show.corpus import conversations
from outbox import Outbox

SECRET = "whsec_" + "c2VjcmV0" * 4
RECEIVER = "http://127.0.0.1:1/replies"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = create_engine(database_url)
    bot.Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def outbox(engine: Engine) -> Iterator[Outbox]:
    outbox = Outbox(engine=engine)
    outbox.upgrade_schema()
    yield outbox
    outbox.close()


@pytest.fixture
def client(engine: Engine, outbox: Outbox) -> FlaskClient:
    return bot.create_app(engine, outbox, RECEIVER).test_client()


def lines(engine: Engine) -> list[tuple[int, str, str]]:
    with Session(engine) as session:
        return [
            (line.number, line.said, line.message_id) for line in session.scalars(select(bot.Line).order_by(bot.Line.number))
        ]


def test_what_was_said_the_answer_and_its_message_are_committed_together(
    client: FlaskClient, engine: Engine, outbox: Outbox
) -> None:
    answers = [client.post("/conversations/ada", json={"text": text}) for text in ("Hello.", "I am tired.")]

    assert [answer.status_code for answer in answers] == [201, 201]
    ids = [answer.json["message_id"] for answer in answers if answer.json]
    assert lines(engine) == [(1, "Hello.", ids[0]), (2, "I am tired.", ids[1])]
    message = outbox.get(ids[1])
    assert message.payload == {"conversation": "ada", "number": 2, "text": reply_to("I am tired.")}
    assert (message.channel, message.target, message.ordering_key) == ("webhook", RECEIVER, "ada")


def test_a_request_that_dies_after_its_enqueue_leaves_neither_line_nor_message(
    client: FlaskClient, engine: Engine, outbox: Outbox
) -> None:
    answer = client.post("/conversations/ada?fail", json={"text": "Hello."})

    assert answer.status_code == 500
    assert answer.json
    assert answer.json["rolled_back"]
    assert lines(engine) == []
    assert outbox.list() == []


def test_the_bot_turns_peoples_own_words_into_questions() -> None:
    assert reply_to("I am afraid of my boss.") == "How long have you been afraid of your boss?"
    assert reply_to("I am afraid of my boss.") == reply_to("I am afraid of my boss.")


def test_the_corpus_holds_five_hundred_lines_none_of_them_said_twice() -> None:
    talks = conversations()
    said = [line for talk in talks for line in talk.lines]

    assert len(said) == len(set(said))
    assert len(said) >= 500
    assert len({talk.name for talk in talks}) == len(talks) == 54


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "receiver.db")


@pytest.fixture
async def receiving(ledger: Ledger) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(receiver.create_app(SECRET, ledger))) as client:
        yield client


def signed(body: str, *, by: str = SECRET) -> dict[str, str]:
    now = datetime.now(UTC)
    signature = Webhook(by).sign("id-1", now, body)
    return {"webhook-id": "id-1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}


def reply_met_with(verdict: Verdict) -> str:
    replies = ({"conversation": "ada", "number": number, "text": "Please go on."} for number in range(1000))
    return json.dumps(next(reply for reply in replies if receiver.mood(reply) is verdict))


async def test_the_receiver_writes_down_what_it_accepts(receiving: TestClient, ledger: Ledger) -> None:
    body = reply_met_with(Verdict.ACCEPTED)

    async with receiving.post("/replies", data=body, headers=signed(body)) as answer:
        assert answer.status == 204

    [entry] = ledger.entries()
    assert (entry.message_id, entry.text, entry.verdict) == ("id-1", "Please go on.", Verdict.ACCEPTED)
    assert ledger.accepted() == 1


async def test_the_receiver_refuses_some_the_first_time_and_takes_them_the_second(
    receiving: TestClient, ledger: Ledger
) -> None:
    body = reply_met_with(Verdict.REFUSED)

    statuses = []
    for _ in range(2):
        async with receiving.post("/replies", data=body, headers=signed(body)) as answer:
            statuses.append(answer.status)

    assert statuses == [503, 204]
    assert [entry.verdict for entry in ledger.entries()] == [Verdict.REFUSED, Verdict.ACCEPTED]


async def test_the_receiver_takes_nothing_that_somebody_else_signed(receiving: TestClient, ledger: Ledger) -> None:
    body = reply_met_with(Verdict.ACCEPTED)

    async with receiving.post("/replies", data=body, headers=signed(body, by="whsec_" + "b3RoZXJz" * 4)) as answer:
        assert answer.status == 401

    assert [entry.verdict for entry in ledger.entries()] == [Verdict.FORGED]
    assert ledger.accepted() == 0
