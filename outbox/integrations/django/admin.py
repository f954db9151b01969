"""The outbox in Django's admin: to look at, and to operate with permissions and on record. Nothing is edited or deleted."""

from collections.abc import Sequence
from functools import cached_property, reduce
from operator import or_
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.core.paginator import Paginator
from django.db.models import Q
from django.urls import path

from outbox.errors import OutboxError
from outbox.integrations.django import admin_channels, admin_operations, admin_timeline
from outbox.integrations.django.admin_timeline import moment
from outbox.integrations.django.configuration import read
from outbox.integrations.django.models import Message
from outbox.lifecycle import Status
from outbox.store.records import OperatorResult

MOST_COUNTED = 10_000
MOST_AT_ONCE = 1_000
"""Messages that one action changes; it says where there were more."""

_CONTENT = ("payload", "headers", "receipt")
_PLAIN = tuple(
    name for name in (field.name for field in Message._meta.get_fields()) if not name.endswith("_at") and name not in _CONTENT
)


class StatusFilter(admin.SimpleListFilter):
    """By status: a fixed list, where Django would read every row to learn which there are."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(status), str(status).replace("_", " ")) for status in Status]

    def queryset(self, request: Any, queryset: Any) -> Any:
        return queryset.filter(status=self.value()) if self.value() else queryset


class ChannelFilter(admin.SimpleListFilter):
    """By channel: those that are registered, for the same reason."""

    title = "channel"
    parameter_name = "channel"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in admin_channels.names()]

    def queryset(self, request: Any, queryset: Any) -> Any:
        return queryset.filter(channel=self.value()) if self.value() else queryset


class CappedPaginator(Paginator):
    """Counts no further than the pages that anybody turns: the table may hold millions."""

    @cached_property
    def count(self) -> int:
        counted: int = self.object_list.order_by()[:MOST_COUNTED].count()
        return counted


class OperatorForm(ActionForm):
    """An action, and why."""

    reason = forms.CharField(required=False, max_length=500, widget=forms.TextInput({"placeholder": "why, for the record"}))


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):
    """Messages: list, page with the timeline of attempts, and the operators' verbs."""

    action_form = OperatorForm
    actions = ("retry", "cancel", "resolve_sent", "resolve_not_sent")
    list_display = ("message_id", "channel", "target", "status", "attempt_count", "due_or_done", "error")
    list_filter = (StatusFilter, ChannelFilter)
    list_per_page = 50
    ordering = ("-seq",)
    paginator = CappedPaginator
    search_fields = ("message_id", "turn_id", "idempotency_key", "target")
    search_help_text = "The whole id, turn, idempotency key or target."
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()

    def get_queryset(self, request: Any) -> Any:
        """The outbox's own database, without what messages say until somebody may read it."""
        return super().get_queryset(request).using(read().database).defer(*_CONTENT)

    def get_search_results(self, request: Any, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """What is called exactly that: an index finds it, where a part of a name would be looked for in every row."""
        named = reduce(or_, (Q(**{field: search_term.strip()}) for field in self.search_fields))
        return (queryset.filter(named) if search_term.strip() else queryset), False

    def has_add_permission(self, request: Any) -> bool:
        """Messages are enqueued by the application."""
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        """What is stored is final."""
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        """Maintenance deletes what is over, after its retention."""
        return False

    def has_retry_permission(self, request: Any) -> bool:
        """For the action."""
        return bool(request.user.has_perm("outbox.retry_message"))

    def has_cancel_permission(self, request: Any) -> bool:
        """For the action."""
        return bool(request.user.has_perm("outbox.cancel_message"))

    def has_resolve_permission(self, request: Any) -> bool:
        """For both actions."""
        return bool(request.user.has_perm("outbox.resolve_message"))

    def get_fieldsets(self, request: Any, obj: Any = None) -> Any:
        """Everything that is known; what the message says only with the permission for it."""
        sections: list[tuple[str | None, dict[str, Any]]] = [
            (None, {"fields": ("message_id", "channel", "target", "status", "last_error", "terminal_reason")}),
            ("Timeline", {"fields": ("times", "attempts", "operations")}),
        ]
        if request.user.has_perm("outbox.view_payload"):
            sections.append(("Content", {"fields": _CONTENT}))
        told = {name for _, section in sections for name in section["fields"]}
        sections.append(("Everything else", {"fields": [name for name in _PLAIN if name not in told], "classes": ["collapse"]}))
        return sections

    def get_readonly_fields(self, request: Any, obj: Any = None) -> Sequence[str]:
        """All of them."""
        return (*_PLAIN, *_CONTENT, "times", "attempts", "operations")

    def get_urls(self) -> list[Any]:
        """The page of channels beside the list."""
        page = self.admin_site.admin_view(admin_channels.page)
        extra = {"site": self.admin_site}
        return [path("channels/", page, extra, name="outbox_channels"), *super().get_urls()]

    @admin.display(description="due or done")
    def due_or_done(self, message: Message) -> str:
        """When it ended, or is tried next."""
        return moment(message.completed_at or message.next_attempt_at)

    @admin.display(description="last error")
    def error(self, message: Message) -> str:
        """The begin of it."""
        text = message.last_error or message.terminal_reason or ""
        return text if len(text) <= 80 else f"{text[:79]}…"

    @admin.display(description="times")
    def times(self, message: Message) -> str:
        """Each moment of its life."""
        return admin_timeline.times(message)

    @admin.display(description="attempts on record")
    def attempts(self, message: Message) -> str:
        """First to last."""
        return admin_timeline.attempts(message)

    @admin.display(description="operations")
    def operations(self, message: Message) -> str:
        """What operators did to it."""
        return admin_timeline.operations(message)

    @admin.action(permissions=["retry"], description="Make due again, from attempt 0")
    def retry(self, request: Any, queryset: Any) -> None:
        """Replay."""
        self._operate(request, queryset, admin_operations.retry, "made due again")

    @admin.action(permissions=["cancel"], description="Cancel")
    def cancel(self, request: Any, queryset: Any) -> None:
        """Withdraw what is not being sent."""
        self._operate(request, queryset, admin_operations.cancel, "cancelled")

    @admin.action(permissions=["resolve"], description="Parked: it was sent")
    def resolve_sent(self, request: Any, queryset: Any) -> None:
        """Record as delivered."""
        self._operate(request, queryset, admin_operations.resolve_sent, "recorded as delivered")

    @admin.action(permissions=["resolve"], description="Parked: it was not sent, send it")
    def resolve_not_sent(self, request: Any, queryset: Any) -> None:
        """Make due."""
        self._operate(request, queryset, admin_operations.resolve_not_sent, "made due again")

    def _operate(self, request: Any, queryset: Any, verb: admin_operations.Verb, done: str) -> None:
        ids = list(queryset.values_list("message_id", flat=True)[: MOST_AT_ONCE + 1])
        try:
            result = verb(request.user, ids[:MOST_AT_ONCE], request.POST.get("reason", ""))
        except OutboxError as error:
            self.message_user(request, f"Nothing was changed: {error}", messages.ERROR)
            return
        self._tell(request, result, done)
        if len(ids) > MOST_AT_ONCE:
            self.message_user(request, f"Only the newest {MOST_AT_ONCE:,} were looked at: do it again.", messages.WARNING)

    def _tell(self, request: Any, result: OperatorResult, done: str) -> None:
        if result.changed:
            count = len(result.changed)
            self.message_user(request, f"{count:,} message{'' if count == 1 else 's'} {done}.", messages.SUCCESS)
        for refusal in result.refused[:5]:
            self.message_user(request, f"Refused: {refusal.id}: {refusal.reason}.", messages.WARNING)
        if len(result.refused) > 5:
            self.message_user(request, f"{len(result.refused) - 5:,} more were refused.", messages.WARNING)
