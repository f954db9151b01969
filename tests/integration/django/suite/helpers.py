"""The test helpers, as an application's tests would use them: nothing is ever committed in TestCase. Run by test_suite.py."""

import pytest
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase

from outbox.integrations.django import enqueue
from outbox.integrations.django.testing import OutboxTestCaseMixin
from tests.integration.django.shop.models import Order


class InATransaction(OutboxTestCaseMixin, TestCase):
    def test_what_a_block_enqueues_is_captured(self) -> None:
        enqueue("warehouse", payload={"order": 1})
        with self.captured() as messages:
            enqueue("warehouse", payload={"order": 2})
            enqueue("ledger", payload={"order": 2})
        assert [(message.channel, message.payload) for message in messages] == [
            ("warehouse", {"order": 2}), ("ledger", {"order": 2}),
        ]  # fmt: skip
        assert len(self.enqueued()) == 3

    def test_what_should_be_enqueued_is_asserted(self) -> None:
        self.assertNothingEnqueued()
        enqueue("warehouse", target="table 1", payload={"order": 1})
        self.assertEnqueued("warehouse", target="table 1", payload={"order": 1}, count=1)
        with pytest.raises(AssertionError, match=r"0 messages like .*'table 1'"):
            self.assertEnqueued("warehouse", target="table 2")
        with pytest.raises(AssertionError, match=r"1 messages like .* where 2 should be"):
            self.assertEnqueued("warehouse", count=2)
        with pytest.raises(AssertionError, match="where none should be"):
            self.assertNothingEnqueued("warehouse")

    def test_what_is_rolled_back_is_not_there(self) -> None:
        with transaction.atomic():
            enqueue("warehouse")
            transaction.set_rollback(True)
        self.assertNothingEnqueued()

    def test_draining_delivers_within_the_tests_transaction(self) -> None:
        Order.objects.create(number=1)
        enqueue("ledger", payload={"order": 2})
        enqueue("broken")
        assert self.drain() == 2
        assert [order.number for order in Order.objects.order_by("number")] == [1, 2]
        assert [message.status for message in self.enqueued()] == ["delivered", "failed_terminal"]
        assert connection.in_atomic_block

    def test_one_test_sees_nothing_of_another(self) -> None:
        self.assertNothingEnqueued()


class Committing(OutboxTestCaseMixin, TransactionTestCase):
    def test_the_same_helpers_work_where_tests_commit(self) -> None:
        with transaction.atomic(), self.captured() as messages:
            enqueue("ledger", payload={"order": 5})
        assert len(messages) == 1
        assert self.drain() == 1
        assert Order.objects.get().number == 5

    def test_the_outboxs_tables_are_flushed_between_tests(self) -> None:
        self.assertNothingEnqueued()
