# ruff: noqa: S101 - these assertions run in tests
"""What every channel must do, as tests that a channel's author inherits.

Subclass :class:`RemoteChannelConformance` in a test module, or :class:`ChannelConformance` if the channel talks to nobody who
could refuse; give it the fixtures ``channel`` and ``other_side``, and pytest runs the rest. ``docs/guides/write-a-channel.md``
shows a whole example.
"""

import asyncio
import gc
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pytest

from outbox.channels.base import Channel
from outbox.channels.registry import ChannelRegistry
from outbox.errors import DeliverySignal, InvalidMessage
from outbox.lifecycle import Status
from outbox.message import ErrorClass, Message
from outbox.testing.other_side import Mood, OtherSide
from outbox.testing.trial import Trial, on_trial

SHORT_S = 0.5
"""The timeout of a channel whose other side says nothing."""


class ChannelConformance:
    """What a channel must do whoever it talks to. Class attributes say what to send."""

    target: ClassVar[str] = "somewhere"
    account_id: ClassVar[str] = ""
    text: ClassVar[Any] = {"text": "hello"}
    media: ClassVar[Any] = {"text": "look", "media": ["https://example.com/chart.png"]}
    rich: ClassVar[Any] = {"text": "hello", "extra": {"priority": "high"}}

    @pytest.fixture
    def channel(self) -> Channel:
        """The channel, configured as its users would. Each test gets a new one."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `channel` that returns the channel to test")

    @pytest.fixture
    def trial(self, channel: Channel) -> Iterator[Trial]:
        """The channel in an outbox of its own."""
        with on_trial(channel) as trial:
            yield trial

    def test_it_can_be_registered(self, channel: Channel) -> None:
        registry = ChannelRegistry()
        registry.register(channel)

        assert registry.get(channel.name) is channel

    def test_it_accepts_a_text_and_leaves_a_receipt_that_can_be_kept(self, trial: Trial) -> None:
        message = self.send(trial, self.text)

        assert message.status is Status.DELIVERED, message.last_error
        assert "details_left_out" not in (message.receipt_json or ""), "the receipt cannot be stored as it is"

    @pytest.mark.parametrize("kind", ["text", "media", "rich"])
    def test_each_kind_of_payload_is_sent_or_refused_with_a_reason(self, trial: Trial, kind: str) -> None:
        try:
            message = self.send(trial, getattr(self, kind))
        except InvalidMessage as refusal:
            reason = str(refusal)
        else:
            assert message.status in (Status.DELIVERED, Status.FAILED_TERMINAL), f"{message.status}: {message.last_error}"
            reason = "sent" if message.status is Status.DELIVERED else message.last_error or ""

        assert reason.strip(), "it was refused without a reason"

    def test_it_may_be_called_again_under_the_same_key(self, trial: Trial) -> None:
        again = self.send_again(trial, self.send(trial, self.text))

        assert again.status is Status.DELIVERED, again.last_error
        assert trial.keys == [trial.keys[0]] * 2

    def test_it_gives_back_what_it_holds_and_can_be_used_afterwards(self, trial: Trial) -> None:
        self.send(trial, self.text)
        trial.close()
        asyncio.run(trial.channel.aclose())
        gc.collect()

        assert [line for line in trial.log if "did not give back" in line or "Unclosed" in line] == []
        assert self.send(trial, self.text).status is Status.DELIVERED

    def send(self, trial: Trial, payload: Any) -> Message:
        """A message, sent once; as it stands afterwards."""
        message_id = trial.enqueue(target=self.target, account_id=self.account_id, payload=payload)
        trial.clock.advance(minutes=1)
        return trial.deliver(message_id)

    def send_again(self, trial: Trial, message: Message) -> Message:
        """The message, replayed by an operator."""
        trial.outbox.retry(message.id)
        trial.clock.advance(minutes=1)
        return trial.deliver(message.id)


class RemoteChannelConformance(ChannelConformance):
    """What a channel must do that talks to somebody who may refuse, be busy, say nothing, or be away."""

    secrets: ClassVar[Sequence[str]] = ()
    """Parts of the channel's configuration that nobody may ever see: tokens, passwords, keys."""

    @pytest.fixture
    def other_side(self) -> OtherSide:
        """What the channel talks to, for example :func:`~outbox.testing.other_side.http_other_side`."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `other_side` that the channel talks to")

    def mark_of(self, key: str) -> str:
        """In what form the idempotency key arrives at the other side, where the channel supports one."""
        return key

    @pytest.mark.parametrize("kind", ["text", "media", "rich"])
    def test_nothing_is_delivered_that_did_not_arrive(self, trial: Trial, other_side: OtherSide, kind: str) -> None:
        try:
            message = self.send(trial, getattr(self, kind))
        except InvalidMessage:
            return

        assert message.status is not Status.DELIVERED or other_side.requests, "delivered, and nothing arrived"

    def test_the_idempotency_key_arrives_each_time_where_the_channel_supports_one(
        self, trial: Trial, other_side: OtherSide
    ) -> None:
        self.send_again(trial, self.send(trial, self.text))

        marked = [request for request in other_side.requests if self.mark_of(trial.keys[0]) in request]
        assert len(marked) >= 2 or not trial.channel.supports_idempotency_key

    def test_what_is_refused_for_good_is_a_dead_letter_with_a_reason(self, trial: Trial, other_side: OtherSide) -> None:
        other_side.turn(Mood.REFUSING)

        message = self.send(trial, self.text)

        assert (message.status, message.error_class) == (Status.FAILED_TERMINAL, ErrorClass.PERMANENT), message.last_error
        assert message.last_error
        _require_typed(trial.raised)

    def test_what_is_refused_in_passing_is_tried_again(self, trial: Trial, other_side: OtherSide) -> None:
        other_side.turn(Mood.BUSY)

        message = self.send(trial, self.text)

        assert (message.status, message.error_class) == (Status.FAILED_RETRYABLE, ErrorClass.TRANSIENT), message.last_error
        _require_typed(trial.raised)

    def test_a_side_that_cannot_be_reached_has_accepted_nothing(self, trial: Trial, other_side: OtherSide) -> None:
        other_side.turn(Mood.AWAY)

        message = self.send(trial, self.text)

        assert (message.status, message.outcome_unknown) == (Status.FAILED_RETRYABLE, False), message.last_error
        _require_typed(trial.raised)

    def test_without_an_answer_it_ends_with_its_timeout_and_the_outcome_is_unknown(
        self, channel: Channel, other_side: OtherSide
    ) -> None:
        channel.timeout = SHORT_S
        other_side.turn(Mood.SILENT)
        with on_trial(channel) as trial:
            message = self.send(trial, self.text)

            assert message.outcome_unknown, f"{message.status}: {message.last_error}"
            assert "did not return within" not in (message.last_error or ""), "the send outlived its timeout"
            _require_typed([error for error in trial.raised if not isinstance(error, asyncio.CancelledError)])

    @pytest.mark.parametrize("mood", [Mood.ACCEPTING, Mood.REFUSING, Mood.BUSY, Mood.AWAY])
    def test_no_secret_shows_whatever_happens(self, trial: Trial, other_side: OtherSide, mood: Mood) -> None:
        if mood is not Mood.ACCEPTING:
            other_side.turn(mood)

        self.send(trial, self.text)
        trial.close()

        shown = trial.shown()
        assert [place for place, secret in enumerate(self.secrets) if secret in shown] == [], "these secrets, by their place"


def _require_typed(raised: Sequence[BaseException]) -> None:
    """What an adapter raises says what became of the send; anything else would be left to guesses."""
    untyped = [error for error in raised if not isinstance(error, DeliverySignal)]
    assert untyped == [], "raise RetryLater, PermanentFailure, NotReady, OutcomeUnknown or Suppressed instead"
