"""The outbox's tables as Django models, to look at. Everything that changes them is a verb of the outbox.

The columns are those of :mod:`outbox.store.schema`, which also has the indexes. Times are epoch milliseconds, UTC.
"""

from typing import Any

from django.db import models

from outbox.integrations.django import configuration

_TABLE = configuration.table_name()


class Message(models.Model):
    """A message to send: one row of the outbox."""

    seq = models.BigAutoField(primary_key=True)
    message_id = models.CharField("id", max_length=36, db_column="id")
    turn_id = models.TextField("turn", null=True)
    channel = models.CharField(max_length=63)
    account_id = models.TextField("account")
    target = models.TextField()
    dispatch_kind = models.CharField(max_length=16, null=True)
    payload = models.TextField(null=True)
    headers = models.TextField(null=True)
    ordering_key = models.TextField(null=True)
    priority = models.SmallIntegerField()
    idempotency_key = models.TextField(null=True)
    queued_at = models.BigIntegerField()
    status = models.CharField(max_length=16)
    attempt_count = models.IntegerField("attempts")
    max_attempts = models.IntegerField(null=True)
    next_attempt_at = models.BigIntegerField("due at")
    ttl_ms = models.BigIntegerField("TTL, milliseconds", null=True)
    expires_at = models.BigIntegerField(null=True)
    last_attempt_at = models.BigIntegerField(null=True)
    last_error = models.TextField(null=True)
    error_class = models.CharField(max_length=16, null=True)
    terminal_reason = models.TextField(null=True)
    delivered_at = models.BigIntegerField(null=True)
    completed_at = models.BigIntegerField(null=True)
    receipt = models.TextField(null=True)
    lease = models.BigIntegerField()
    lease_until = models.BigIntegerField(null=True)
    lease_owner = models.TextField(null=True)
    outcome_unknown = models.SmallIntegerField()
    blocked = models.SmallIntegerField()
    stamped = models.SmallIntegerField()
    blanked_at = models.BigIntegerField(null=True)

    class Meta:
        db_table = _TABLE
        default_permissions = ("view",)
        permissions = (
            ("view_payload", "Can see what messages say"),
            ("retry_message", "Can make messages due again"),
            ("cancel_message", "Can cancel messages"),
            ("resolve_message", "Can say of parked messages whether they were sent"),
            ("pause_channel", "Can pause and resume channels"),
        )

    def __str__(self) -> str:
        return f"{self.message_id} through {self.channel}"


class _Companion(models.Model):
    """What is kept beside the messages. It has models so that tests which flush the database flush it too."""

    class Meta:
        abstract = True
        default_permissions: Any = ()


class Attempt(_Companion):
    """One attempt at sending a message: failed and unknown ones, and successful ones where that is switched on."""

    pk = models.CompositePrimaryKey("message_id", "lease")
    message_id = models.CharField(max_length=36)
    lease = models.BigIntegerField()
    number = models.IntegerField()
    outcome = models.CharField(max_length=16)
    error = models.TextField(null=True)
    error_class = models.CharField(max_length=16, null=True)
    started_at = models.BigIntegerField()
    finished_at = models.BigIntegerField()
    owner = models.TextField(null=True)

    class Meta(_Companion.Meta):
        db_table = f"{_TABLE}_attempt"


class Operation(_Companion):
    """What an operator did to a message."""

    seq = models.BigAutoField(primary_key=True)
    message_id = models.CharField(max_length=36, null=True)
    channel = models.CharField(max_length=63)
    action = models.CharField(max_length=16)
    from_status = models.CharField(max_length=16, null=True)
    at = models.BigIntegerField()
    actor = models.TextField(null=True)
    reason = models.TextField(null=True)

    class Meta(_Companion.Meta):
        db_table = f"{_TABLE}_operation"


class Gate(_Companion):
    """A channel or target that takes nothing for a while: paused, gone, not ready, or failing too often."""

    pk = models.CompositePrimaryKey("channel", "target", "kind")
    channel = models.CharField(max_length=63)
    target = models.TextField()
    kind = models.CharField(max_length=16)
    closed_since = models.BigIntegerField()
    closed_until = models.BigIntegerField(null=True)
    reason = models.TextField(null=True)
    actor = models.TextField(null=True)
    failures = models.IntegerField()

    class Meta(_Companion.Meta):
        db_table = f"{_TABLE}_gate"


class Bucket(_Companion):
    """When a channel or target that has a rate takes its next message."""

    pk = models.CompositePrimaryKey("channel", "target")
    channel = models.CharField(max_length=63)
    target = models.TextField()
    free_at = models.BigIntegerField()

    class Meta(_Companion.Meta):
        db_table = f"{_TABLE}_bucket"


class Tally(_Companion):
    """How many messages of a channel ended how in one minute, and how long they had waited."""

    pk = models.CompositePrimaryKey("minute", "channel", "outcome")
    minute = models.BigIntegerField()
    channel = models.CharField(max_length=63)
    outcome = models.CharField(max_length=16)
    messages = models.BigIntegerField()
    latency_sum_ms = models.BigIntegerField()
    latency_max_ms = models.BigIntegerField()

    class Meta(_Companion.Meta):
        db_table = f"{_TABLE}_tally"


class TallyMark(_Companion):
    """How far the messages of a channel that ended in one way are counted."""

    pk = models.CompositePrimaryKey("channel", "outcome")
    channel = models.CharField(max_length=63)
    outcome = models.CharField(max_length=16)
    completed_at = models.BigIntegerField()
    seq = models.BigIntegerField()

    class Meta(_Companion.Meta):
        db_table = f"{_TABLE}_tally_mark"


class ImportReceipt(_Companion):
    """That an entry of another queue was imported."""

    source_id = models.TextField(primary_key=True)
    digest = models.CharField(max_length=64)
    outcome = models.CharField(max_length=32)
    message_id = models.CharField(max_length=36, null=True)
    imported_at = models.BigIntegerField()

    class Meta(_Companion.Meta):
        db_table = f"{_TABLE}_import"
