"""A dashboard on an outbox of a real database, with one user of each role."""

from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session
from werkzeug.security import generate_password_hash

from outbox import Outbox, OutcomeUnknown, PermanentFailure, RetryLater
from outbox.message import Attempt, Message
from outbox.policy.retry import OnUnknown
from outbox.web import Login, Open, Role, User, create_app
from tests.integration.web.browsing import Browser

CHEAP_HASH = generate_password_hash("right", method="pbkdf2:sha256:1")
"""Quick to check, as no real password may be."""

Enqueue = Callable[..., str]


@pytest.fixture
def users() -> dict[str, User]:
    """``ada`` the administrator, ``grace`` the operator and ``vera`` the viewer; their password is ``right``."""
    roles = {"ada": Role.ADMIN, "grace": Role.OPERATOR, "vera": Role.VIEWER}
    return {name: User(name, role, CHEAP_HASH) for name, role in roles.items()}


@pytest.fixture
def talker(outbox: Outbox) -> Outbox:
    """The outbox with a channel that does what the payload says: deliver, fail, try again, or leave it unknown."""

    @outbox.channel("chat", on_unknown=OnUnknown.PARK, max_in_flight=40)
    def send(message: Message, attempt: Attempt) -> None:
        match message.payload:
            case {"fail": str(reason)}:
                raise PermanentFailure(reason)
            case {"later": str(reason)}:
                raise RetryLater(reason, after=600)
            case {"unknown": str(reason)}:
                raise OutcomeUnknown(reason)

    return outbox


@pytest.fixture
def enqueue(talker: Outbox) -> Enqueue:
    """Commit one message; its id."""

    def one(payload: object = None, *, channel: str = "chat", **options: object) -> str:
        with Session(talker.store.engine) as session, session.begin():
            return talker.enqueue(session, channel, payload=payload, **options).id

    return one


@pytest.fixture
def end(talker: Outbox, enqueue: Enqueue) -> Enqueue:
    """Commit one message and deliver what is due; its id."""

    def one(payload: object = None, **options: object) -> str:
        message_id = enqueue(payload, **options)
        talker.drain()
        return message_id

    return one


@pytest.fixture
def operator(talker: Outbox) -> Browser:
    """Somebody on the same machine, who need not log in."""
    return Browser(create_app(talker, auth=Open("grace")))


@pytest.fixture
def admin(talker: Outbox) -> Browser:
    return Browser(create_app(talker, auth=Open("ada", Role.ADMIN)))


@pytest.fixture
def stranger(talker: Outbox, users: dict[str, User]) -> Browser:
    """Somebody who has not logged in."""
    return Browser(create_app(talker, auth=Login(users)))
