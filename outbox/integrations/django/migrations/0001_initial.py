"""The first schema. Frozen, as the schema's own revisions are: later changes are later migrations."""

from django.db import migrations, models

from outbox.integrations.django.configuration import table_name
from outbox.integrations.django.schema import UpgradeTo

_TABLE = table_name()

_MESSAGE = migrations.CreateModel(
    name="Message",
    fields=[
        ("seq", models.BigAutoField(primary_key=True, serialize=False)),
        ("message_id", models.CharField(db_column="id", max_length=36, verbose_name="id")),
        ("turn_id", models.TextField(null=True, verbose_name="turn")),
        ("channel", models.CharField(max_length=63)),
        ("account_id", models.TextField(verbose_name="account")),
        ("target", models.TextField()),
        ("dispatch_kind", models.CharField(max_length=16, null=True)),
        ("payload", models.TextField(null=True)),
        ("headers", models.TextField(null=True)),
        ("ordering_key", models.TextField(null=True)),
        ("priority", models.SmallIntegerField()),
        ("idempotency_key", models.TextField(null=True)),
        ("queued_at", models.BigIntegerField()),
        ("status", models.CharField(max_length=16)),
        ("attempt_count", models.IntegerField(verbose_name="attempts")),
        ("max_attempts", models.IntegerField(null=True)),
        ("next_attempt_at", models.BigIntegerField(verbose_name="due at")),
        ("ttl_ms", models.BigIntegerField(null=True, verbose_name="TTL, milliseconds")),
        ("expires_at", models.BigIntegerField(null=True)),
        ("last_attempt_at", models.BigIntegerField(null=True)),
        ("last_error", models.TextField(null=True)),
        ("error_class", models.CharField(max_length=16, null=True)),
        ("terminal_reason", models.TextField(null=True)),
        ("delivered_at", models.BigIntegerField(null=True)),
        ("completed_at", models.BigIntegerField(null=True)),
        ("receipt", models.TextField(null=True)),
        ("lease", models.BigIntegerField()),
        ("lease_until", models.BigIntegerField(null=True)),
        ("lease_owner", models.TextField(null=True)),
        ("outcome_unknown", models.SmallIntegerField()),
        ("blocked", models.SmallIntegerField()),
        ("stamped", models.SmallIntegerField()),
        ("blanked_at", models.BigIntegerField(null=True)),
    ],
    options={
        "db_table": _TABLE,
        "default_permissions": ("view",),
        "permissions": (
            ("view_payload", "Can see what messages say"),
            ("retry_message", "Can make messages due again"),
            ("cancel_message", "Can cancel messages"),
            ("resolve_message", "Can say of parked messages whether they were sent"),
            ("pause_channel", "Can pause and resume channels"),
        ),
    },
)

_ATTEMPT = migrations.CreateModel(
    name="Attempt",
    fields=[
        (
            "pk",
            models.CompositePrimaryKey("message_id", "lease", blank=True, editable=False, primary_key=True, serialize=False),
        ),
        ("message_id", models.CharField(max_length=36)),
        ("lease", models.BigIntegerField()),
        ("number", models.IntegerField()),
        ("outcome", models.CharField(max_length=16)),
        ("error", models.TextField(null=True)),
        ("error_class", models.CharField(max_length=16, null=True)),
        ("started_at", models.BigIntegerField()),
        ("finished_at", models.BigIntegerField()),
        ("owner", models.TextField(null=True)),
    ],
    options={"db_table": f"{_TABLE}_attempt", "default_permissions": ()},
)

_OPERATION = migrations.CreateModel(
    name="Operation",
    fields=[
        ("seq", models.BigAutoField(primary_key=True, serialize=False)),
        ("message_id", models.CharField(max_length=36, null=True)),
        ("channel", models.CharField(max_length=63)),
        ("action", models.CharField(max_length=16)),
        ("from_status", models.CharField(max_length=16, null=True)),
        ("at", models.BigIntegerField()),
        ("actor", models.TextField(null=True)),
        ("reason", models.TextField(null=True)),
    ],
    options={"db_table": f"{_TABLE}_operation", "default_permissions": ()},
)

_GATE = migrations.CreateModel(
    name="Gate",
    fields=[
        (
            "pk",
            models.CompositePrimaryKey(
                "channel", "target", "kind", blank=True, editable=False, primary_key=True, serialize=False
            ),
        ),
        ("channel", models.CharField(max_length=63)),
        ("target", models.TextField()),
        ("kind", models.CharField(max_length=16)),
        ("closed_since", models.BigIntegerField()),
        ("closed_until", models.BigIntegerField(null=True)),
        ("reason", models.TextField(null=True)),
        ("actor", models.TextField(null=True)),
        ("failures", models.IntegerField()),
    ],
    options={"db_table": f"{_TABLE}_gate", "default_permissions": ()},
)

_BUCKET = migrations.CreateModel(
    name="Bucket",
    fields=[
        (
            "pk",
            models.CompositePrimaryKey("channel", "target", blank=True, editable=False, primary_key=True, serialize=False),
        ),
        ("channel", models.CharField(max_length=63)),
        ("target", models.TextField()),
        ("free_at", models.BigIntegerField()),
    ],
    options={"db_table": f"{_TABLE}_bucket", "default_permissions": ()},
)

_IMPORT_RECEIPT = migrations.CreateModel(
    name="ImportReceipt",
    fields=[
        ("source_id", models.TextField(primary_key=True, serialize=False)),
        ("digest", models.CharField(max_length=64)),
        ("outcome", models.CharField(max_length=32)),
        ("message_id", models.CharField(max_length=36, null=True)),
        ("imported_at", models.BigIntegerField()),
    ],
    options={"db_table": f"{_TABLE}_import", "default_permissions": ()},
)


class Migration(migrations.Migration):
    """Schema 0001."""

    initial = True
    operations = [  # noqa: RUF012 - as Django spells it
        migrations.SeparateDatabaseAndState(
            database_operations=[UpgradeTo("0001")],
            state_operations=[_MESSAGE, _ATTEMPT, _OPERATION, _GATE, _BUCKET, _IMPORT_RECEIPT],
        )
    ]
