"""The admin's page of channels: what is closed, and pausing and resuming with a permission and on record."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from outbox.errors import OutboxError
from outbox.integrations.django import admin_operations, process
from outbox.integrations.django.admin_timeline import moment
from outbox.integrations.django.configuration import read
from outbox.integrations.django.models import Gate

PERMISSION = "outbox.pause_channel"


class ChannelForm(forms.Form):
    """A channel, or one of its targets, and why."""

    channel = forms.CharField(max_length=63)
    target = forms.CharField(required=False, help_text="Only this target; empty: the whole channel.")
    minutes = forms.FloatField(required=False, min_value=0.01, max_value=5_256_000, help_text="Empty: until it is resumed.")
    reason = forms.CharField(required=False, max_length=500)
    action = forms.ChoiceField(choices=[("pause", "Pause"), ("resume", "Resume")], widget=forms.HiddenInput)


def names() -> list[str]:
    """The channels that are registered here, and those that are closed."""
    registered = (channel.name for channel in process.outbox().channels)
    closed = Gate.objects.using(read().database).values_list("channel", flat=True).distinct()
    return sorted({*registered, *closed})


def page(request: Any, site: Any) -> Any:
    """Show it, or do what its form says. Raises ``PermissionDenied``."""
    if not request.user.has_perm("outbox.view_message"):
        raise PermissionDenied
    form = ChannelForm(request.POST if request.method == "POST" else None)
    if request.method == "POST":
        if not request.user.has_perm(PERMISSION):
            raise PermissionDenied
        if form.is_valid() and _done(request, form.cleaned_data):
            return redirect(request.path)
    context = {
        **site.each_context(request),
        "title": "Channels",
        "channels": names(),
        "gates": [(gate, moment(gate.closed_since), moment(gate.closed_until)) for gate in _gates()],
        "may_pause": request.user.has_perm(PERMISSION),
        "form": form,
    }
    return TemplateResponse(request, "admin/outbox/channels.html", context)


def _gates() -> Any:
    return Gate.objects.using(read().database).order_by("channel", "target", "kind")


def _done(request: Any, wanted: dict[str, Any]) -> bool:
    channel, target, reason = wanted["channel"], wanted["target"], wanted["reason"]
    try:
        if wanted["action"] == "pause":
            for_s = None if wanted["minutes"] is None else wanted["minutes"] * 60
            admin_operations.pause(request.user, channel, target, for_s, reason)
        else:
            admin_operations.resume(request.user, channel, target, reason)
    except OutboxError as error:
        messages.error(request, f"Nothing was changed: {error}")
        return False
    messages.success(request, f"{wanted['action'].capitalize()}d {channel}{f' to {target}' if target else ''}.")
    return True
