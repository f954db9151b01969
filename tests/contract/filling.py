"""A long history beside messages of every living sort, written by the database itself, which takes seconds for a million."""

from outbox.store.sqlstore import SQLStore
from tests.contract.steps import CHANNEL, NOW

TABLE = "message_outbox"
ALIVE = 1_000

NUMBERS = {
    "sqlite": "with recursive n(i) as (select 1 union all select i + 1 from n where i < {count}) ",
    "postgresql": "with n(i) as (select generate_series(1, {count})) ",
}
INSERT = (
    f"insert into {TABLE} (id, channel, target, dispatch_kind, payload, ordering_key, queued_at, status, attempt_count,"
    " max_attempts, next_attempt_at, expires_at, completed_at, lease, lease_until, lease_owner, blocked, stamped) "
)


def fill(store: SQLStore, terminal_rows: int) -> None:
    """Terminal rows, one each 6 seconds, and of each living sort a thousand, in conversations and outside of them."""
    for status, count in (("delivered", terminal_rows * 9 // 10), ("failed_terminal", terminal_rows // 10)):
        _insert(store, status, count, completed_at=f"{NOW} - i * 6000")
    for key in ("null", "'chat-' || (i - i / 100 * 100)"):
        _insert(store, "queued", ALIVE, key=key, expires_at=f"{NOW} + 600000")
        _insert(store, "failed_retryable", ALIVE, key=key, due=f"{NOW} + i * 1000", attempts=1)
    _insert(store, "queued", ALIVE, key="'chat-' || (i - i / 100 * 100)", blocked=1, expires_at=f"{NOW} - i")
    _insert(store, "queued", ALIVE, stamped=0)
    _insert(store, "dispatched", ALIVE, lease_until=f"{NOW} - 500 + i")
    _insert(store, "sending", ALIVE, lease_until=f"{NOW} - 500 + i", attempts=1)
    _insert(store, "parked", ALIVE, attempts=1)


def _insert(
    store: SQLStore, status: str, count: int, *, due: str = f"{NOW} - 10000 + i", key: str = "null", expires_at: str = "null",
    completed_at: str = "null", lease_until: str = "null", attempts: int = 0, blocked: int = 0, stamped: int = 1,
) -> None:  # fmt: skip
    name = f"'{status}-' || i || '-' || {blocked} || {stamped} || coalesce({key}, '')"
    owner = "'worker-' || (i - i / 10 * 10)" if status == "sending" else "null"
    values = (
        f"select {name}, '{CHANNEL}', 'target-' || (i - i / 50 * 50), 'final', 'null', {key}, {NOW} - i, '{status}',"
        f" {attempts}, 5, {due}, {expires_at}, {completed_at}, {attempts}, {lease_until}, {owner}, {blocked}, {stamped} from n"
    )
    with store.transaction() as tx:
        dialect = store.engine.dialect.name
        numbers = NUMBERS[dialect].format(count=count)
        tx.connection.exec_driver_sql(INSERT + numbers + values if dialect == "postgresql" else numbers + INSERT + values)
