"""What a delivery attempt can come to: plain data that policy matches exhaustively."""

from dataclasses import dataclass, field

from outbox.message import Receipt


@dataclass(frozen=True, slots=True)
class Delivered:
    """The other side accepted the message."""

    receipt: Receipt = field(default_factory=Receipt)


@dataclass(frozen=True, slots=True)
class Retry:
    """A transient failure: nothing was accepted. ``after_ms`` is the provider's own wish, if it named one."""

    error: str
    after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Deferred:
    """The send was not called, or said that it was not ready: nothing is charged, and the channel closes for a while."""

    reason: str
    after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A permanent failure. ``destination_gone`` asks to close the destination as well."""

    error: str
    destination_gone: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """Request bytes may have left and no answer came back. ``park`` asks to hold the message whatever the channel's policy."""

    error: str
    park: bool = False


@dataclass(frozen=True, slots=True)
class Withheld:
    """The adapter decided not to send; recorded as cancelled with its reason."""

    reason: str


Outcome = Delivered | Retry | Deferred | Rejected | Unknown | Withheld
