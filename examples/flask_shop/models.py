"""The shop's own data."""

from sqlalchemy.orm import Mapped, mapped_column

from examples.flask_shop.extensions import database


class Order(database.Model):  # type: ignore[misc, name-defined]
    """Somebody ordered something; the warehouse packs it."""

    number: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    item: Mapped[str]
    packed: Mapped[bool] = mapped_column(default=False)
