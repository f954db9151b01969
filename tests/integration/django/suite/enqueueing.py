"""Enqueueing in Django's own transactions, committed for real. Run by test_suite.py with Django's test runner."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import TransactionTestCase, override_settings

from outbox import NewMessage
from outbox.errors import InvalidMessage, TransactionError, UnknownChannel
from outbox.integrations.django import enqueue, enqueue_many, enqueue_reply, outbox
from tests.integration.django.shop.models import Order


@contextmanager
def rolled_back() -> Iterator[None]:
    """A block that fails in the end."""
    with suppress(ZeroDivisionError), transaction.atomic():
        yield
        raise ZeroDivisionError


class Atomic(TransactionTestCase):
    def test_a_message_shares_the_fate_of_the_models(self) -> None:
        with transaction.atomic():
            Order.objects.create(number=1)
            kept = enqueue("warehouse", payload={"order": 1})
        with rolled_back():
            Order.objects.create(number=2)
            enqueue("warehouse", payload={"order": 2})
        assert [order.number for order in Order.objects.all()] == [1]
        assert [message.id for message in outbox().list()] == [kept.id]

    def test_a_rolled_back_savepoint_takes_its_message_along_and_no_other(self) -> None:
        with transaction.atomic():
            kept = enqueue("warehouse")
            with rolled_back():
                enqueue("warehouse", idempotency_key="gone")
        assert [message.id for message in outbox().list()] == [kept.id]

    def test_invariant_1_a_message_is_one_statement_on_djangos_connection(self) -> None:
        with transaction.atomic(), self.assertNumQueries(1) as seen:
            enqueue("warehouse", payload={"discount": "5 %"}, ordering_key="table 1")
        assert "message_outbox" in seen.captured_queries[0]["sql"]
        with transaction.atomic(), self.assertNumQueries(1):
            enqueue_many([NewMessage(channel="warehouse") for _ in range(10)])

    def test_an_idempotency_key_returns_the_first_message(self) -> None:
        with transaction.atomic():
            first = enqueue("warehouse", idempotency_key="order 1")
        with transaction.atomic():
            second = enqueue("warehouse", idempotency_key="order 1")
        assert (first.created, second.created, second.id) == (True, False, first.id)

    def test_a_reply_is_a_turn_of_messages(self) -> None:
        with transaction.atomic():
            enqueue_reply("warehouse", target="1", parts=["Hello.", "Your order is on its way."], turn_id="turn 1")
        assert [message.turn_id for message in outbox().list()] == ["turn 1"] * 2

    def test_the_database_alias_is_a_transaction_of_the_outbox_itself_too(self) -> None:
        with transaction.atomic():
            queued = outbox().enqueue("default", "warehouse", payload=1)
        assert outbox().get(queued.id).payload == 1

    def test_what_is_enqueued_is_delivered_with_the_orm_at_hand(self) -> None:
        with transaction.atomic():
            enqueue("ledger", payload={"order": 7})
        assert outbox().drain() == 1
        assert outbox().list()[0].status == "delivered"
        assert [order.number for order in Order.objects.all()] == [7]

    def test_what_cannot_be_stored_is_refused_and_the_block_may_go_on(self) -> None:
        with transaction.atomic():
            with pytest.raises(InvalidMessage):
                enqueue("warehouse", payload={"order": Order(number=1)})
            Order.objects.create(number=1)
        assert Order.objects.count() == 1


class Refusals(TransactionTestCase):
    databases = ("default", "same")

    def test_outside_of_a_block_an_enqueue_is_refused(self) -> None:
        with self.assertRaisesMessage(TransactionError, "OUTSIDE_TRANSACTION"):
            enqueue("warehouse")
        assert outbox().list() == []

    def test_outside_of_a_block_it_warns_or_works_where_the_settings_say_so(self) -> None:
        with override_settings(OUTBOX={"OUTSIDE_TRANSACTION": "warn"}), self.assertWarns(RuntimeWarning) as warned:
            enqueue("warehouse")
        assert warned.filename.endswith("enqueueing.py"), warned.filename
        with override_settings(OUTBOX={"OUTSIDE_TRANSACTION": "allow"}), warnings.catch_warnings():
            warnings.simplefilter("error")
            enqueue_many([NewMessage(channel="warehouse"), NewMessage(channel="warehouse", idempotency_key="k")])
        assert len(outbox().list()) == 3

    def test_a_block_that_has_failed_is_refused(self) -> None:
        with self.assertRaisesMessage(TransactionError, "failed already"), transaction.atomic():
            transaction.set_rollback(True)
            enqueue("warehouse")

    def test_where_the_statement_fails_the_block_can_only_be_rolled_back(self) -> None:
        with transaction.atomic():
            Order.objects.create(number=1)
            _forbid_messages()
            with pytest.raises(DatabaseError):
                enqueue("warehouse")
            with pytest.raises(transaction.TransactionManagementError):
                Order.objects.create(number=2)
            transaction.set_rollback(True)
        assert Order.objects.count() == 0

    def test_an_unknown_channel_is_refused_where_channels_are_known(self) -> None:
        with self.assertRaisesMessage(UnknownChannel, "did you mean 'ledger'"), transaction.atomic():
            enqueue("lodger")

    def test_a_transaction_of_another_database_is_refused(self) -> None:
        with self.assertRaisesMessage(TransactionError, "shares no fate"), transaction.atomic():
            enqueue("warehouse", using="elsewhere")

    def test_another_alias_of_the_same_database_is_joined(self) -> None:
        with transaction.atomic(using="same"):
            enqueue("warehouse", using="same")
        assert len(outbox().list()) == 1


class Nudge(TransactionTestCase):
    def setUp(self) -> None:
        self.nudges: list[bool] = []
        outbox().on_commit = lambda *_told: self.nudges.append(connection.in_atomic_block)
        self.addCleanup(setattr, outbox(), "on_commit", None)

    def test_the_relay_is_woken_after_the_outermost_commit(self) -> None:
        with transaction.atomic():
            with transaction.atomic():
                enqueue("warehouse")
            assert self.nudges == []
        assert self.nudges == [False]

    def test_a_rollback_wakes_nobody(self) -> None:
        with rolled_back():
            enqueue("warehouse")
        assert self.nudges == []

    def test_a_nudge_that_fails_does_not_fail_the_request(self) -> None:
        outbox().on_commit = lambda *_told: 1 / 0  # type: ignore[assignment, return-value]
        with self.assertLogs("django.db.backends.base", "ERROR"), transaction.atomic():
            queued = enqueue("warehouse")
        assert outbox().get(queued.id).status == "queued"


def _forbid_messages() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(
                "create trigger no_message before insert on message_outbox begin select raise(abort, 'not today'); end"
            )
        else:
            cursor.execute("alter table message_outbox add constraint no_message check (channel <> 'warehouse')")
