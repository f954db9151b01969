"""``take``, ``release`` and ``extend``: the start of a delivery, the way back when it does not start, and its heartbeat.

Take is the first fence. It admits a row only with the lease that the delivery task carries, so a broker duplicate, a copy
published again, or a stale message becomes a no-op before any I/O.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Table,
    Text,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    or_,
    select,
    update,
)

from outbox.lifecycle import ACTIVE, Event, Status, sources, target
from outbox.message import INHERITS_REPLY_TO, Claim, DispatchKind, Message
from outbox.policy.retry import RELEASED, released
from outbox.store.conditions import not_waiting_untried, unexpired
from outbox.store.records import Settlement, Taker
from outbox.store.schema import literal, status_in
from outbox.store.settling import settle
from outbox.store.sql import Sql, Transaction, columns_of_message, to_message


def take(tx: Transaction, claims: Sequence[Claim], taker: Taker) -> list[Message]:
    """Charge an attempt to each claimed row that may start now, and return those rows in ``seq`` order.

    A row is admitted when it is of the taker's channel, still dispatched (or was released and is due), unexpired, carries the
    claim's lease, and no earlier row of its ordering key is active nor another one of that key being sent. Claims of one key
    are admitted together when they are given in order and nothing else of the key stands before or between them; whoever takes
    them sends them one after another. A row that only its order holds back is released, so that it is claimed again in its
    turn instead of waiting for the horizon.
    """
    if not claims:
        return []
    terms = {"of_channel": taker.channel, "owner": taker.owner, "run_lease_ms": taker.run_lease_ms}
    previous = _previous(claims)
    rows = tx.execute_on(_take(tx.sql), _with_their_keys(tx, claims, previous), **terms).all()
    messages = _in_turn_alone(tx, sorted(map(to_message, rows), key=attrgetter("seq")), previous)
    taken = {row.id for row in rows}
    refused = [claim for claim in claims if claim.id not in taken]
    if refused:
        release(tx, refused)
    return _answering_once(tx, messages)


def _in_turn_alone(tx: Transaction, messages: Sequence[Message], previous: Mapping[str, str | None]) -> list[Message]:
    """Give back those that were to follow one that was not admitted: ahead of the two, anybody's row may stand.

    Nor does a row follow one of another ordering key, whatever the claims say: nobody has looked whether its own is being sent.
    """
    in_turn: dict[str | None, Message] = {}
    early: list[Settlement] = []
    for message in messages:
        before = in_turn.get(previous[message.id])
        if previous[message.id] is None or (before is not None and before.ordering_key == message.ordering_key):
            in_turn[message.id] = message
        else:
            early.append(Settlement(message.id, message.lease, released(message), RELEASED))
    settle(tx, early)
    return list(in_turn.values())


def _answering_once(tx: Transaction, messages: list[Message]) -> list[Message]:
    """A reply's own ``reply_to`` is used once: parts behind the one that was delivered with it answer nobody."""
    asking = [{"id": message.id} for message in messages if message.inherits_reply_to]
    if not asking:
        return messages
    replied = set(tx.execute_on(_replied(tx.sql), asking).scalars())
    return [message.without_reply_to() if message.id in replied else message for message in messages]


def release(tx: Transaction, claims: Sequence[Claim]) -> int:
    """Give dispatched rows back unstarted and uncharged. The lease stays, so copies in the broker stay valid."""
    if not claims:
        return 0
    return tx.execute_on(_release(tx.sql), _records(claims)).rowcount


def extend(tx: Transaction, held: Sequence[Message], *, run_lease_ms: int, longest_ms: int) -> set[str]:
    """Heartbeat: move ``lease_until`` to ``run_lease_ms`` from now, never past ``longest_ms`` after the attempt began.

    Returns the ids still held; for any other no further I/O is allowed.
    """
    rows = tx.execute_on(_extend(tx.sql), _records(held), run_lease_ms=run_lease_ms, longest_ms=longest_ms)
    return set(rows.scalars())


def _with_their_keys(tx: Transaction, claims: Sequence[Claim], previous: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """The claims as records that tell whether the row's ordering key, if it has one, is this transaction's to its end.

    Under read committed two takes of one key would not see each other; the lock makes the second wait for another day. A
    claim that does not say that its row has a key comes without the lock, and take does not admit such a row.
    """
    records = [{**record, "previous": previous[record["id"]]} for record in _records(claims)]
    if not tx.sql.dialect.locks_rows:
        return [{**record, "key_held": 1} for record in records]
    if all(claim.ordering_key is None for claim in claims):
        return [{**record, "key_held": 0} for record in records]
    keys = {row.id: f"{row.channel}\n{row.ordering_key}" for row in tx.execute_on(_keys(tx.sql), records)}
    locked = tx.sql.dialect.lock_keys(tx.connection, sorted(set(keys.values())))
    return [{**record, "key_held": int(keys.get(record["id"]) in locked)} for record in records]


def _previous(claims: Sequence[Claim]) -> dict[str, str | None]:
    """For each id, that of the claim before it of the same ordering key, if there is one."""
    latest: dict[str | None, str] = {}
    previous: dict[str, str | None] = {}
    for claim in claims:
        if claim.id not in previous:
            previous[claim.id] = latest.get(claim.ordering_key)
            if claim.ordering_key is not None:
                latest[claim.ordering_key] = claim.id
    return previous


def _records(rows: Iterable[Claim | Message]) -> list[dict[str, Any]]:
    """In one order in every transaction: two over the same rows wait for each other, and lock up only by a rare plan."""
    return sorted(({"id": row.id, "lease": row.lease} for row in rows), key=itemgetter("id"))


def _in_turn(sql: Sql, row: Any, previous_id: ColumnElement[str]) -> ColumnElement[bool]:
    """No earlier row of the key is active but those that are taken with it, and none of the key is being sent.

    A row behind another one of the claims looks no further ahead than to that one: if it is taken too, which the caller has to
    see to, then it, or the one before it, has seen the rest. So however many are taken together, each looks at what is between.
    """
    messages = sql.tables.messages
    other, previous = messages.alias("other"), messages.alias("previous")

    def of_its_key(alias: Any) -> ColumnElement[bool]:
        return and_(alias.c.channel == row.channel, alias.c.ordering_key == row.ordering_key)

    def none(condition: ColumnElement[bool]) -> ColumnElement[bool]:
        keyed = and_(of_its_key(other), other.c.ordering_key.is_not(None))
        return ~exists(select(literal_column("1")).select_from(other).where(keyed, condition))

    its_seq = select(previous.c.seq).where(previous.c.id == previous_id, of_its_key(previous))
    since = func.coalesce(its_seq.correlate_except(previous).scalar_subquery(), literal(0))
    ahead = and_(status_in(other, ACTIVE), other.c.seq > since, other.c.seq < row.seq, not_waiting_untried(sql, other.c))
    busy = and_(other.c.status == literal(Status.SENDING), other.c.seq != row.seq)
    return or_(row.ordering_key.is_(None), and_(none(ahead), or_(previous_id.is_not(None), none(busy))))


@lru_cache(maxsize=64)
def _keys(sql: Sql) -> Select[Any]:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"id": Text(), "lease": BigInteger()})
    return (
        select(m.c.id, m.c.channel, m.c.ordering_key)
        .join_from(r, m, sql.dialect.named(m.c.id, r.c.id))
        .where(m.c.ordering_key.is_not(None))
    )


@lru_cache(maxsize=64)
def _replied(sql: Sql) -> Select[Any]:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"id": Text()})
    earlier = m.alias("earlier")
    answered = exists().where(
        earlier.c.turn_id == m.c.turn_id,
        earlier.c.channel == m.c.channel,
        earlier.c.seq < m.c.seq,
        earlier.c.status == literal(Status.DELIVERED),
        earlier.c.headers.contains(INHERITS_REPLY_TO),
    )
    return select(m.c.id).join_from(r, m, sql.dialect.named(m.c.id, r.c.id)).where(answered)


@lru_cache(maxsize=64)
def _take(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"id": Text(), "lease": BigInteger(), "key_held": Integer(), "previous": Text()})
    sent_again = or_(m.c.dispatch_kind.is_(None), m.c.dispatch_kind == literal(DispatchKind.FINAL))
    return (
        update(m)
        .where(
            sql.dialect.named(m.c.id, r.c.id),
            m.c.lease == r.c.lease,
            m.c.channel == bindparam("of_channel"),
            status_in(m, sources(Event.TAKE)),
            # Due as of a moment before any other row has looked whether this one still waits to become so.
            or_(m.c.status == literal(Status.DISPATCHED), m.c.next_attempt_at <= sql.began),
            unexpired(sql, m.c),
            or_(m.c.attempt_count == literal(0), sent_again),
            or_(m.c.ordering_key.is_(None), r.c.key_held == literal(1)),
            _in_turn(sql, m.c, r.c.previous),
        )
        .values(
            status=literal(target(Event.TAKE)),
            lease=m.c.lease + 1,
            attempt_count=m.c.attempt_count + 1,
            last_attempt_at=sql.now,
            lease_until=sql.now + bindparam("run_lease_ms", type_=BigInteger),
            lease_owner=bindparam("owner"),
            blocked=literal(0),
        )
        .returning(*columns_of_message(m))
    )


@lru_cache(maxsize=64)
def _release(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"id": Text(), "lease": BigInteger()})
    return (
        update(m)
        .where(
            sql.dialect.named(m.c.id, r.c.id),
            m.c.lease == r.c.lease,
            m.c.status == literal(Status.DISPATCHED),
            unexpired(sql, m.c),
        )
        .values(**given_back(m))
    )


def given_back(messages: Table) -> dict[str, Any]:
    """What becomes of a dispatched row that nobody began."""
    untried = literal(target(Event.RELEASE_UNTRIED))
    status = case((messages.c.attempt_count == literal(0), untried), else_=literal(target(Event.RELEASE_TRIED)))
    return {"status": status, "lease_until": None}


@lru_cache(maxsize=64)
def _extend(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"id": Text(), "lease": BigInteger()})
    until = sql.now + bindparam("run_lease_ms", type_=BigInteger)
    latest = m.c.last_attempt_at + bindparam("longest_ms", type_=BigInteger)
    return (
        update(m)
        .where(sql.dialect.named(m.c.id, r.c.id), m.c.lease == r.c.lease, m.c.status == literal(Status.SENDING))
        .values(lease_until=case((until > latest, latest), else_=until))
        .returning(m.c.id)
    )
