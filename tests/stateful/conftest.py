"""Stores on an empty outbox, as the contract tests have them."""

from tests.contract.conftest import (  # noqa: F401 - fixtures
    clock,
    known_stores,
    open_known,
    postgres_outbox,
    postgres_outbox_url,
    session_clock,
    sqlite_outbox_url,
    sqlite_template,
)
