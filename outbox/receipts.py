"""Receipts as they are stored: whatever a provider said, in a form that no database refuses."""

from typing import Any

from outbox import codec
from outbox.message import Receipt
from outbox.policy.classification import storable

LONGEST_RECEIPT = 16_384
LONGEST_PROVIDER_ID = 500
LONGEST_REASON = 500


def storable_receipt(receipt: Receipt) -> str | None:
    """The receipt's JSON text, ``None`` for an empty one.

    Never raises, because the message was accepted: details that cannot be stored, or are too long, are left out and named as
    left out.
    """
    try:
        return _encoded(receipt)
    except Exception as error:  # an object of the adapter's that cannot even be looked at
        return codec.encode({"details_left_out": type(error).__name__})


def _encoded(receipt: Receipt) -> str | None:
    if receipt.provider_id is None and not receipt.details:
        return None
    provider_id: dict[str, Any] = {}
    if receipt.provider_id is not None:
        provider_id["provider_id"] = storable(str(receipt.provider_id), LONGEST_PROVIDER_ID)
    if not receipt.details:
        return codec.encode(provider_id or None)
    try:
        text = codec.encode({**provider_id, "details": receipt.details}) or ""
        if len(text) <= LONGEST_RECEIPT:
            return text
        why = f"{len(text)} characters"
    except codec.EncodeError as error:
        why = storable(str(error), LONGEST_REASON)
    return codec.encode({**provider_id, "details_left_out": why})
