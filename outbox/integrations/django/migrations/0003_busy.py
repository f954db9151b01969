"""Rows of an ordering key that are being sent, by key: an index, which Django's models do not tell. Frozen."""

from django.db import migrations

from outbox.integrations.django.schema import UpgradeTo


class Migration(migrations.Migration):
    """Schema 0003."""

    dependencies = [("outbox", "0002_tallies")]  # noqa: RUF012 - as Django spells it
    operations = [UpgradeTo("0003")]  # noqa: RUF012
