"""Tasks of Django 6 through the outbox. Run by test_suite.py with Django's test runner, where Django has tasks."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.tasks import TaskResultStatus, default_task_backend
from django.tasks.exceptions import TaskResultDoesNotExist
from django.tasks.signals import task_enqueued, task_finished, task_started
from django.test import TransactionTestCase, override_settings
from django.utils import timezone

from outbox.errors import InvalidMessage
from outbox.integrations.django import outbox
from tests.integration.django.shop import tasks
from tests.integration.django.shop.models import Order

TASKS = {"default": {"BACKEND": "outbox.integrations.django.task_backend.OutboxBackend", "QUEUES": ["default", "slow"]}}


@override_settings(TASKS=TASKS)
class Tasks(TransactionTestCase):
    def test_a_task_runs_after_the_commit_and_its_result_is_kept(self) -> None:
        with transaction.atomic():
            result = tasks.write_down.enqueue(42)
            assert result.status == TaskResultStatus.READY
        assert outbox().drain() == 1
        result.refresh()
        assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, {"written": 42})
        assert result.attempts == 1
        assert result.finished_at is not None
        assert Order.objects.get().number == 42

    def test_a_task_is_forgotten_with_the_transaction(self) -> None:
        with transaction.atomic():
            result = tasks.write_down.enqueue(42)
            transaction.set_rollback(True)
        assert outbox().drain() == 0
        with pytest.raises(TaskResultDoesNotExist):
            default_task_backend.get_result(result.id)

    def test_outside_of_a_transaction_a_task_is_durable_at_once(self) -> None:
        result = tasks.later.enqueue(1)
        outbox().drain()
        assert tasks.later.get_result(result.id).return_value == 2

    def test_a_task_that_fails_is_tried_again_and_tells_why(self) -> None:
        result = tasks.fail.enqueue()
        outbox().drain()
        result.refresh()
        assert (result.status, result.attempts) == (TaskResultStatus.READY, 1)
        assert result.errors[0].exception_class is LookupError
        assert "nothing there" in result.errors[0].traceback

    def test_a_task_that_has_used_its_attempts_has_failed(self) -> None:
        with override_settings(OUTBOX={"TASKS_POLICY": {"max_attempts": 1}}):
            result = tasks.fail.enqueue()
            outbox().drain()
            result.refresh()
        assert result.status == TaskResultStatus.FAILED

    def test_a_task_knows_its_attempt_priority_queue_and_time(self) -> None:
        moment = timezone.now() + timedelta(hours=1)
        result = tasks.count_attempts.using(queue_name="slow", run_after=moment, priority=7).enqueue()
        message = outbox().get(result.id)
        assert (message.priority, message.next_attempt_at) == (7, round(moment.timestamp() * 1000))
        outbox().cancel([result.id])
        outbox().retry([result.id])
        outbox().drain()
        result.refresh()
        assert (result.return_value, result.task.queue_name) == (1, "slow")

    def test_what_a_task_returns_must_be_what_can_be_kept(self) -> None:
        result = tasks.unkept.enqueue()
        outbox().drain()
        result.refresh()
        assert result.status == TaskResultStatus.FAILED
        assert "cannot be kept" in result.errors[0].traceback

    def test_a_row_can_call_nothing_but_a_task(self) -> None:
        payload = {"args": [], "kwargs": {}, "queue": "default", "backend": "default"}
        with transaction.atomic():
            for target in ("os.getcwd", "no.such.module", "tests.integration.django.shop.models.Order"):
                outbox().enqueue("default", "django.tasks", target=target, payload=payload)
        outbox().drain()
        assert {message.status for message in outbox().list()} == {"failed_terminal"}

    def test_arguments_that_are_not_json_are_refused(self) -> None:
        with pytest.raises((TypeError, InvalidMessage)):
            tasks.write_down.enqueue(object())

    def test_djangos_signals_are_sent(self) -> None:
        heard: list[Any] = []

        def hear(signal: Any, task_result: Any, **_more: Any) -> None:
            heard.append((signal, task_result.status))

        for signal in (task_enqueued, task_started, task_finished):
            signal.connect(hear)
            self.addCleanup(signal.disconnect, hear)
        tasks.write_down.enqueue(1)
        outbox().drain()
        assert heard == [
            (task_enqueued, TaskResultStatus.READY),
            (task_started, TaskResultStatus.RUNNING),
            (task_finished, TaskResultStatus.SUCCESSFUL),
        ]
