"""The bot: one HTTP endpoint that stores what somebody said, and the answer, and the message that carries the answer.

All three are written in one transaction, so there is never an answer without its message, nor a message for an answer that
was rolled back. The endpoint itself talks to no broker and to no receiver.
"""

import os
import time

from celery import Celery
from flask import Flask, request
from flask.typing import ResponseReturnValue
from sqlalchemy import Engine, create_engine, func, make_url, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from werkzeug.serving import make_server

from examples.flask_bot.replies import reply_to
from outbox import Outbox
from outbox.integrations.celery import install

LOCK_TIMEOUT_S = 30


class Base(DeclarativeBase):
    """The bot's own tables."""


class Line(Base):
    """What somebody said, and what the bot answered."""

    __tablename__ = "bot_line"

    conversation: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    said: Mapped[str]
    reply: Mapped[str]
    message_id: Mapped[str] = mapped_column(unique=True)


def create_app(engine: Engine, outbox: Outbox, receiver_url: str) -> Flask:
    """The Flask application; answers are posted to ``receiver_url``."""
    app = Flask(__name__)

    @app.post("/conversations/<conversation>")
    def hear(conversation: str) -> ResponseReturnValue:
        said = request.get_json()["text"]
        with Session(engine) as session, session.begin():
            number = session.scalars(select(func.count()).where(Line.conversation == conversation)).one() + 1
            reply = reply_to(said)
            queued = outbox.enqueue(
                session,
                "webhook",
                target=receiver_url,
                payload={"conversation": conversation, "number": number, "text": reply},
                ordering_key=conversation,
            )
            session.add(Line(conversation=conversation, number=number, said=said, reply=reply, message_id=queued.id))
            if "fail" in request.args:
                raise RequestDies(queued.id)
        return {"reply": reply, "message_id": queued.id, "committed_at": time.time()}, 201

    @app.errorhandler(RequestDies)
    def rolled_back(death: RequestDies) -> ResponseReturnValue:
        return {"rolled_back": str(death)}, 500

    return app


class RequestDies(Exception):
    """For the show: ``?fail`` stands for whatever may go wrong in a request after its enqueue. It names the message."""


def main() -> None:
    """Serve on a free port of the loopback interface, and print the address."""
    url = make_url(os.environ["OUTBOX_DATABASE_URL"])
    # SQLite lets one write at a time, and on a busy machine the queue may be longer than its five seconds.
    patience = {"timeout": LOCK_TIMEOUT_S} if url.get_backend_name() == "sqlite" else {}
    engine = create_engine(url, connect_args=patience)
    Base.metadata.create_all(engine)
    outbox = Outbox(engine=engine)
    # Only so that a commit wakes the relay at once; without it the bot would need no Celery, and beat would do.
    install(Celery(broker=os.environ["OUTBOX_BROKER_URL"]), outbox)
    server = make_server("127.0.0.1", 0, create_app(engine, outbox, os.environ["BOT_RECEIVER_URL"]), threaded=True)
    print(f"http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
