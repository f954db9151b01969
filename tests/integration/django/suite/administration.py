"""The admin, driven over HTTP by Django's test client. Run by test_suite.py with Django's test runner."""

from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import TestCase
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from outbox.integrations.django import admin as outbox_admin
from outbox.integrations.django import enqueue
from outbox.integrations.django.models import Gate, Message, Operation
from outbox.integrations.django.testing import OutboxTestCaseMixin

LIST = "admin:outbox_message_changelist"
HOSTILE = "<script>alert(1)</script>"


class AdminTestCase(OutboxTestCaseMixin, TestCase):
    def log_in(self, *permissions: str) -> User:
        """Somebody of the staff who may look, and what else is named."""
        user = User.objects.create_user("ada", is_staff=True)
        wanted = ["view_message", *permissions]
        user.user_permissions.set(Permission.objects.filter(content_type__app_label="outbox", codename__in=wanted))
        self.client.force_login(user)
        return user

    def listed(self, **query: str) -> str:
        return self.text(self.client.get(reverse(LIST), query))

    def page(self, message_id: str) -> str:
        return self.text(self.client.get(reverse("admin:outbox_message_change", args=[self.seq(message_id)])))

    def act(self, action: str, *ids: str, reason: str = "") -> HttpResponse:
        data = {"action": action, "_selected_action": [self.seq(one) for one in ids], "reason": reason}
        answer: HttpResponse = self.client.post(reverse(LIST), data, follow=True)
        return answer

    def text(self, answer: Any) -> str:
        assert answer.status_code == 200, answer
        return str(answer.content.decode())

    def seq(self, message_id: str) -> int:
        return int(Message.objects.get(message_id=message_id).seq)

    def dead(self, **options: Any) -> str:
        """A dead letter."""
        queued = enqueue("broken", **options)
        self.drain()
        return queued.id


class Looking(AdminTestCase):
    def test_messages_are_listed_filtered_and_found(self) -> None:
        dead = self.dead(target="ada", turn_id="turn 1")
        waiting = enqueue("warehouse", target="bob", idempotency_key="order 1", delay=60).id
        self.log_in()
        assert self.listed().index(waiting) < self.listed().index(dead)
        assert waiting not in self.listed(status="failed_terminal")
        assert dead not in self.listed(channel="warehouse")
        for query in (dead, "turn 1", "ada"):
            assert dead in self.listed(q=query)
            assert waiting not in self.listed(q=query)
        assert waiting in self.listed(q="order 1")

    def test_the_page_of_a_message_tells_its_life(self) -> None:
        self.log_in("retry_message")
        dead = self.dead()
        self.act("retry", dead, reason="address corrected")
        self.drain()
        page = self.page(dead)
        for told in ("no such address", "rejected", "address corrected", "replay", "failed_terminal"):
            assert told in page, told

    def test_nobody_sees_what_a_message_says_without_the_permission(self) -> None:
        message_id = enqueue("warehouse", payload={"secret": "rosebud"}, headers={"also": "hidden-word"}).id
        user = self.log_in()
        assert "rosebud" not in self.page(message_id)
        assert "hidden-word" not in self.page(message_id)
        user.user_permissions.add(Permission.objects.get(codename="view_payload"))
        assert "rosebud" in self.page(message_id)
        assert "hidden-word" in self.page(message_id)

    def test_what_messages_hold_is_shown_as_text(self) -> None:
        self.log_in("view_payload", "retry_message", "pause_channel")
        message_id = self.dead(target=HOSTILE, payload={"text": HOSTILE}, turn_id=HOSTILE, idempotency_key=HOSTILE)
        self.act("retry", message_id, reason=HOSTILE)
        self.client.post(
            reverse("admin:outbox_channels"), {"action": "pause", "channel": "broken", "target": HOSTILE, "reason": HOSTILE}
        )
        for shown in (self.listed(), self.page(message_id), self.text(self.client.get(reverse("admin:outbox_channels")))):
            assert HOSTILE not in shown
            assert "&lt;script&gt;" in shown

    def test_nothing_is_added_changed_or_deleted(self) -> None:
        message_id = enqueue("warehouse").id
        self.log_in("retry_message", "cancel_message", "resolve_message", "view_payload", "pause_channel")
        seq = self.seq(message_id)
        assert self.client.get(reverse("admin:outbox_message_add")).status_code == 403
        assert self.client.post(reverse("admin:outbox_message_delete", args=[seq])).status_code == 403
        assert self.client.post(reverse("admin:outbox_message_change", args=[seq]), {"target": "x"}).status_code == 403
        assert "delete_selected" not in self.listed()

    def test_whoever_may_not_look_sees_nothing(self) -> None:
        enqueue("warehouse")
        self.client.force_login(User.objects.create_user("eve", is_staff=True))
        assert self.client.get(reverse(LIST)).status_code == 403
        assert self.client.get(reverse("admin:outbox_channels")).status_code == 403

    def test_no_count_goes_over_the_whole_table(self) -> None:
        for _ in range(3):
            enqueue("warehouse")
        self.log_in()
        with CaptureQueriesContext(connection) as seen, patch.object(outbox_admin, "MOST_COUNTED", 2):
            page = self.listed(_facets="True")
        counts = [one["sql"] for one in seen.captured_queries if "COUNT(" in one["sql"] and "message_outbox" in one["sql"]]
        assert counts
        assert all("LIMIT 2" in sql for sql in counts)
        assert "payload" not in "".join(one["sql"] for one in seen.captured_queries)
        assert "2 messages" in page

    def test_a_list_costs_as_many_statements_for_many_messages_as_for_one(self) -> None:
        self.log_in()
        enqueue("warehouse")
        with CaptureQueriesContext(connection) as one:
            self.listed()
        for _ in range(20):
            enqueue("warehouse")
        with self.assertNumQueries(len(one)):
            self.listed()


class Operating(AdminTestCase):
    def test_a_dead_letter_is_made_due_again_on_record(self) -> None:
        user = self.log_in("retry_message")
        dead = self.dead()
        assert "1 message made due again" in self.text(self.act("retry", dead, reason="address corrected"))
        message = Message.objects.get(message_id=dead)
        assert (message.status, message.attempt_count) == ("queued", 0)
        operation = Operation.objects.get(message_id=dead)
        assert (operation.action, operation.actor, operation.reason) == ("replay", "ada", "address corrected")
        entry = LogEntry.objects.get()
        assert (entry.user, entry.object_id, entry.change_message) == (
            user, str(message.seq), "Made due again: address corrected",
        )  # fmt: skip

    def test_messages_are_cancelled_and_what_is_over_is_refused_by_name(self) -> None:
        self.log_in("cancel_message")
        waiting, dead = enqueue("warehouse", delay=60).id, self.dead()
        told = self.text(self.act("cancel", waiting, dead))
        assert "1 message cancelled" in told
        assert f"Refused: {dead}: it is failed_terminal already" in told
        assert Message.objects.get(message_id=waiting).status == "cancelled"
        assert LogEntry.objects.count() == 1

    def test_parked_messages_are_resolved_either_way(self) -> None:
        self.log_in("resolve_message")
        sent, unsent = enqueue("warehouse").id, enqueue("warehouse").id
        Message.objects.update(status="parked", attempt_count=1)
        self.act("resolve_sent", sent)
        self.act("resolve_not_sent", unsent)
        assert [Message.objects.get(message_id=one).status for one in (sent, unsent)] == ["delivered", "queued"]

    def test_each_verb_asks_for_its_own_permission(self) -> None:
        dead, waiting = self.dead(), enqueue("warehouse", delay=60).id
        self.log_in("resolve_message")
        for action in ("retry", "cancel"):
            assert f'value="{action}"' not in self.listed()
            self.act(action, dead, waiting)
        assert Message.objects.get(message_id=dead).status == "failed_terminal"
        assert Message.objects.get(message_id=waiting).status == "queued"
        assert LogEntry.objects.count() == 0

    def test_the_record_and_the_deed_are_one(self) -> None:
        self.log_in("retry_message")
        dead = self.dead()
        with pytest.raises(RuntimeError), patch.object(LogEntry.objects.__class__, "log_actions", side_effect=RuntimeError):
            self.act("retry", dead)
        assert Message.objects.get(message_id=dead).status == "failed_terminal"
        assert Operation.objects.count() == 0

    def test_verbs_work_within_a_requests_own_transaction(self) -> None:
        self.log_in("retry_message")
        dead = self.dead()
        with patch.dict(connection.settings_dict, {"ATOMIC_REQUESTS": True}), transaction.atomic():
            self.act("retry", dead)
        assert Message.objects.get(message_id=dead).status == "queued"


class Channels(AdminTestCase):
    def send(self, **data: str) -> str:
        return self.text(self.client.post(reverse("admin:outbox_channels"), data, follow=True))

    def test_a_channel_is_paused_and_resumed_on_record(self) -> None:
        self.log_in("pause_channel")
        assert "Paused warehouse." in self.send(action="pause", channel="warehouse", minutes="5", reason="stocktaking")
        gate = Gate.objects.get()
        assert (gate.channel, gate.kind, gate.actor, gate.reason) == ("warehouse", "pause", "ada", "stocktaking")
        assert gate.closed_until is not None
        assert gate.closed_until - gate.closed_since == 300_000
        enqueue("warehouse")
        assert self.drain() == 0
        assert "Resumed warehouse." in self.send(action="resume", channel="warehouse", reason="done")
        assert self.drain() == 1
        assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == ["Paused: stocktaking", "Resumed: done"]

    def test_one_target_is_paused_until_it_is_resumed(self) -> None:
        self.log_in("pause_channel")
        self.send(action="pause", channel="warehouse", target="table 1")
        assert Gate.objects.get().closed_until is None
        enqueue("warehouse", target="table 1")
        enqueue("warehouse", target="table 2")
        assert self.drain() == 1

    def test_a_form_that_says_too_little_changes_nothing(self) -> None:
        self.log_in("pause_channel")
        assert "This field is required" in self.send(action="pause", channel="")
        assert Gate.objects.count() == 0

    def test_whoever_may_only_look_is_refused(self) -> None:
        self.log_in()
        answer = self.client.post(reverse("admin:outbox_channels"), {"action": "pause", "channel": "warehouse"})
        assert answer.status_code == 403
        assert 'value="Pause"' not in self.text(self.client.get(reverse("admin:outbox_channels")))
        assert Gate.objects.count() == 0
