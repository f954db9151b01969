"""Plain SQLAlchemy: no web framework, no broker, no Celery. ``python -m examples.plain_sqlalchemy [DATABASE_URL]``.

Orders are written with the messages about them; then this process delivers what was committed, as a cron job may
(``outbox --app examples.plain_sqlalchemy:outbox relay --inline`` goes on doing so).
"""

import sys

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from outbox import Attempt, Backoff, Message, Outbox, RetryLater

engine = create_engine(sys.argv[1] if __name__ == "__main__" and sys.argv[1:] else "sqlite:///shop.db")
outbox = Outbox(engine=engine)


class Base(DeclarativeBase):
    """The shop's own tables."""


class Order(Base):
    """Somebody ordered something."""

    __tablename__ = "orders"

    number: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]


@outbox.channel("warehouse", backoff=Backoff((0.0,)))
def pack(message: Message, attempt: Attempt) -> None:
    """Have an order packed; the warehouse is at lunch when it is asked first, and is asked again."""
    if attempt.number == 1:
        raise RetryLater("we are at lunch")
    print(f"packed order {message.payload['order']}, at attempt {attempt.number}, key {attempt.idempotency_key}", flush=True)


def order(item: str) -> int:
    """Take an order: it is committed with its message, or neither is."""
    with Session(engine) as session, session.begin():
        placed = Order(item=item)
        session.add(placed)
        session.flush()
        outbox.enqueue(session, "warehouse", payload={"order": placed.number}, ordering_key="packing table 1")
        if item == "unicorn":
            raise LookupError("unicorns are sold out")
        return placed.number


def main() -> None:
    """Take three orders, one of which is taken back, and deliver."""
    Base.metadata.create_all(engine)
    outbox.upgrade_schema()
    for item in ("tea", "unicorn", "honey"):
        try:
            print(f"{item} is order {order(item)}")
        except LookupError as error:
            print(f"{item} is no order: {error}")
    outbox.drain()
    for message in reversed(outbox.list()):
        print(f"message about order {message.payload['order']}: {message.status} after {message.attempt_count} attempts")


if __name__ == "__main__":
    main()
