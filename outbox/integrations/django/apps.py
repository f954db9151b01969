"""The Django app."""

from typing import Any

from django.apps import AppConfig
from django.core.signals import setting_changed
from django.utils.module_loading import autodiscover_modules


class OutboxConfig(AppConfig):
    """``INSTALLED_APPS += ["outbox.integrations.django"]``."""

    name = "outbox.integrations.django"
    label = "outbox"
    verbose_name = "Outbox"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, and the channels in every app's ``outbox_channels.py``."""
        from outbox.integrations.django import checks  # noqa: F401 - they register themselves

        autodiscover_modules("outbox_channels")
        setting_changed.connect(_setting_changed, dispatch_uid="outbox")


def _setting_changed(*, setting: str, **_signal: Any) -> None:
    """Tests override settings; their channels come from the settings then, and from their own lines."""
    if setting in ("OUTBOX", "DATABASES", "EMAIL_BACKEND", "MAILERS", "TASKS"):
        from outbox.integrations.django import process

        process.forget()
