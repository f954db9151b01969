"""Names of tasks and queues. They are part of the public surface: users route and monitor by them."""

RELAY_TASK = "outbox.relay"
MAINTAIN_TASK = "outbox.maintain"
RELAY_QUEUE = "outbox.relay"
"""Relay and maintenance have a queue of their own, so that slow sends cannot starve them."""


def deliver_task(channel: str) -> str:
    """Name of the delivery task of a channel."""
    return f"outbox.deliver.{channel}"


def channel_queue(channel: str) -> str:
    """Name of the queue that carries a channel's delivery tasks."""
    return f"outbox.{channel}"
