"""The adapter contract: what a channel must do, and what it may declare about itself."""

import inspect
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, ClassVar

from outbox.errors import ConfigurationError, InvalidMessage, did_you_mean
from outbox.message import Attempt, Message, NewMessage
from outbox.policy.destination import Breaker, Limits, Rate
from outbox.policy.retention import Retention
from outbox.policy.retry import Backoff, DeadHead, OnUnknown, RetryPolicy

PERMIT_MARGIN_MS = 20_000
"""Beyond its timeout, what a probe may take from the claim to its settle before another one is let pass."""


class ExpireAction(StrEnum):
    """What becomes of a message older than its TTL: recorded as expired, or sent all the same (late is better than never)."""

    FAIL = "fail"
    DELIVER = "deliver"


class Channel:
    """Base class of every channel adapter.

    A subclass names itself and implements :meth:`send_final`, as a plain or an ``async`` method. Returning means that the
    other side accepted the message; everything else is raised: :class:`~outbox.RetryLater`, :class:`~outbox.PermanentFailure`,
    :class:`~outbox.NotReady`, :class:`~outbox.OutcomeUnknown`, :class:`~outbox.Suppressed`. Any other exception is classified
    by its type, an HTTP status it carries, and its text.

    Class attributes declare policy; keyword arguments of an instance override them.
    """

    name: str
    """The channel's name: lower-case letters, digits, ``_``, ``.`` and ``-``; it becomes part of the task and queue names."""

    timeout: float = 30.0
    """Seconds one send may take in all."""
    concurrency: int = 1
    """Sends under way at once in one delivery task; a kill leaves at most so many unknown outcomes."""
    batch_size: int = 100
    """Messages that travel in one broker message."""
    key_window: int = 1
    """Messages of one ordering key that a task may take together, within its ``concurrency``, to send them one after another.
    With 1, each is on record before the next begins. More is faster, and after a death so many may be sent again, in order."""
    steps_aside: bool = True
    """Whether a slow task gives its slot of the pool to whoever waits for one, while its sends go on in its process. A handler
    that may take its process down (out of memory, a crash in C) should not: it would take others along."""
    max_in_flight: int = 1000
    """Messages dispatched or being sent at once, over all workers."""
    rate_limit: Rate | None = None
    """Messages per time through the whole channel."""
    target_rate_limit: Rate | None = None
    """Messages per time to one target."""
    target_in_flight: int | None = None
    """Messages dispatched or being sent to one target at once."""
    recovery_pace: float = 0.0
    """Seconds between messages to one target while a backlog is worked off: late or tried before."""
    target_breaker: Breaker | None = Breaker()
    """Closes a target that keeps failing; ``None`` never does."""
    channel_breaker: Breaker | None = None
    """Closes the whole channel when send after send fails, whatever the target: for channels with one provider."""
    max_attempts: int = 5
    """Attempts before a message becomes a dead letter."""
    backoff: Backoff = Backoff()
    """Pauses between attempts."""
    ttl: float | None = None
    """Seconds from the first due time until a message expires; ``None`` keeps it for ever."""
    expire_action: ExpireAction = ExpireAction.FAIL
    ordered: bool = False
    """Whether messages that name no ordering key get that of :meth:`ordering_key_for`."""
    on_unknown: OnUnknown = OnUnknown.RESEND
    """What to do when a send's outcome is unknown: ``resend``, ``reconcile`` (through :meth:`find_delivery`) or ``park``."""
    dead_head: DeadHead = DeadHead.PASS
    """Whether a message that fails for good holds back the later ones of its ordering key."""
    retention: Retention | None = None
    """How long this channel's messages are kept when they are over; ``None``: as the outbox says."""
    transactional: bool = False
    """Whether the whole effect is in the outbox's own database: ``attempt.session`` is then the session of the settle."""
    supports_idempotency_key: bool = False
    """Whether the other side drops a second message with the same idempotency key."""
    text_limit: int | None = None
    """Characters that one message may have; :meth:`~outbox.Outbox.enqueue_reply` splits longer text."""
    target_required: bool = True
    """Whether a message without a target is refused at enqueue."""
    secret_options: ClassVar[tuple[str, ...]] = ()
    """Names of options that must never be printed or logged."""

    def __init__(self, name: str | None = None, **policy: Any) -> None:
        if name is not None:
            self.name = name
        for option, value in policy.items():
            if option not in POLICY_OPTIONS:
                hint = did_you_mean(option, POLICY_OPTIONS)
                raise ConfigurationError(f"channel {self.name!r} has no option {option!r}{hint}")
            setattr(self, option, value)

    @property
    def is_async(self) -> bool:
        """Whether :meth:`send_final` (and then :meth:`find_delivery` too) is a coroutine function, run on the event loop."""
        return inspect.iscoroutinefunction(self.send_final)

    def send_final(self, message: Message, attempt: Attempt) -> Any:
        """Send the message and return a :class:`~outbox.Receipt` (or ``None``). May be declared ``async``."""
        raise NotImplementedError

    def find_delivery(self, message: Message) -> Any:
        """Ask the other side whether it has the message; ``async`` where :meth:`send_final` is.

        Return a :class:`~outbox.Receipt` when it was sent, ``False`` when it was not, ``None`` when nobody can tell.
        """
        raise NotImplementedError

    def check_message(self, message: NewMessage) -> None:
        """Refuse, at enqueue, what this channel cannot express. Raises :class:`~outbox.errors.InvalidMessage`."""
        if self.target_required and not message.target:
            raise InvalidMessage(f"channel {self.name!r} needs a target, and it is empty")

    @property
    def retry_policy(self) -> RetryPolicy:
        """What this channel says about failures."""
        return RetryPolicy(self.backoff, self.max_attempts, self.on_unknown, self.dead_head)

    def limits(self, **closed: Any) -> Limits:
        """What a claim has to respect for this channel; ``closed`` and ``probed`` targets come from the gates."""
        return Limits(
            max_in_flight=self.max_in_flight,
            per_key=self.batch_size,
            rate=self.rate_limit,
            target_rate=self.target_rate_limit,
            target_in_flight=self.target_in_flight,
            recovery_pace_ms=round(self.recovery_pace * 1000),
            permit_ms=round(self.timeout * 1000) + PERMIT_MARGIN_MS,
            **closed,
        )

    @property
    def ttl_ms(self) -> int | None:
        """The TTL in milliseconds; ``None`` where there is none, or late is better than never."""
        if self.ttl is None or self.expire_action is ExpireAction.DELIVER:
            return None
        return round(self.ttl * 1000)

    def ordering_key_for(self, message: NewMessage | Message) -> str | None:
        """The ordering key of a message that names none: its account and target where the channel is ordered."""
        return f"{message.account_id}|{message.target}" if self.ordered else None

    def weak_secrets(self) -> Iterable[str]:
        """What `outbox doctor` should say of secrets that are missing or can be guessed; never the secrets themselves."""
        return ()

    async def aclose(self) -> None:
        """Give back connections. Called once when the sending process shuts down."""


class FunctionChannel(Channel):
    """A plain function as a channel: ``function(message, attempt)``, plain or ``async``."""

    target_required = False

    def __init__(self, name: str, function: Callable[[Message, Attempt], Any], **policy: Any) -> None:
        super().__init__(name, **policy)
        self._function = function

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self._function)

    def send_final(self, message: Message, attempt: Attempt) -> Any:
        return self._function(message, attempt)


POLICY_OPTIONS = frozenset(
    {"timeout", "concurrency", "batch_size", "key_window", "max_in_flight", "max_attempts", "backoff", "ttl", "expire_action",
     "ordered", "on_unknown", "dead_head", "rate_limit", "target_rate_limit", "target_in_flight", "recovery_pace",
     "target_breaker", "channel_breaker", "retention", "transactional", "supports_idempotency_key", "target_required",
     "steps_aside"}
)  # fmt: skip
"""Names of the class attributes that an instance, or a table of channels.toml, may override."""


def implements(channel: Channel, method: str) -> bool:
    """Whether the adapter has a ``method`` of its own, on its class or set on the instance."""
    own = getattr(channel, method, None)
    return callable(own) and getattr(own, "__func__", own) is not Channel.__dict__[method]
