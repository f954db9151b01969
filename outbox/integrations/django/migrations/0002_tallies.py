"""What became of messages, minute by minute. Frozen."""

from django.db import migrations, models

from outbox.integrations.django.configuration import table_name
from outbox.integrations.django.schema import UpgradeTo

_TABLE = table_name()

_TALLY = migrations.CreateModel(
    name="Tally",
    fields=[
        (
            "pk",
            models.CompositePrimaryKey(
                "minute", "channel", "outcome", blank=True, editable=False, primary_key=True, serialize=False
            ),
        ),
        ("minute", models.BigIntegerField()),
        ("channel", models.CharField(max_length=63)),
        ("outcome", models.CharField(max_length=16)),
        ("messages", models.BigIntegerField()),
        ("latency_sum_ms", models.BigIntegerField()),
        ("latency_max_ms", models.BigIntegerField()),
    ],
    options={"db_table": f"{_TABLE}_tally", "default_permissions": ()},
)

_TALLY_MARK = migrations.CreateModel(
    name="TallyMark",
    fields=[
        (
            "pk",
            models.CompositePrimaryKey("channel", "outcome", blank=True, editable=False, primary_key=True, serialize=False),
        ),
        ("channel", models.CharField(max_length=63)),
        ("outcome", models.CharField(max_length=16)),
        ("completed_at", models.BigIntegerField()),
        ("seq", models.BigIntegerField()),
    ],
    options={"db_table": f"{_TABLE}_tally_mark", "default_permissions": ()},
)


class Migration(migrations.Migration):
    """Schema 0002."""

    dependencies = [("outbox", "0001_initial")]  # noqa: RUF012 - as Django spells it
    operations = [  # noqa: RUF012
        migrations.SeparateDatabaseAndState(database_operations=[UpgradeTo("0002")], state_operations=[_TALLY, _TALLY_MARK])
    ]
