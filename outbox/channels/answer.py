"""What a server answered, and what that means for the message."""

import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never

from yarl import URL

from outbox.errors import DeliverySignal, OutcomeUnknown, PermanentFailure, RetryLater
from outbox.outcome import Deferred, Delivered, Outcome, Rejected, Retry, Unknown, Withheld
from outbox.policy.classification import classify_status, retry_after_ms, storable

_LONGEST_EXPLANATION = 500
_NOT_TEXT = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request: its status, its headers, and as much of its body as was worth waiting for."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def accepted(self) -> bool:
        """Whether the status is one of the 2xx."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON, or ``None`` where it is not said to be, or is none."""
        if "json" not in self.headers.get("Content-Type", ""):
            return None
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def failure(self, confidential: Iterable[str] = ()) -> DeliverySignal:
        """The signal to raise for an answer that is no success.

        Its text tells what the server said; the ``confidential`` texts, which a server may have echoed, are taken out.
        """
        return signal_of(classify_status(self.status, self._explanation(confidential), self.wait_ms()))

    def wait_ms(self) -> int | None:
        """Milliseconds for which the server asks to be left alone, by its ``Retry-After``; ``None`` when it does not."""
        return retry_after_ms(self.headers.get("Retry-After"), time.time_ns() // 1_000_000)

    def _explanation(self, confidential: Iterable[str]) -> str:
        said = f"HTTP {self.status}"
        if 300 <= self.status < 400 and "Location" in self.headers:
            said += f", a redirect to {_without_query(self.headers['Location'])}, which is not followed"
        if excerpt := self._excerpt():
            said += f": {excerpt}"
        for text in confidential:
            said = said.replace(text, "[removed]")
        return storable(said, _LONGEST_EXPLANATION)

    def _excerpt(self) -> str:
        if self.headers.get("Content-Encoding", "identity") != "identity":
            return ""  # compressed although it was not asked for; a small body may unpack to a huge one
        return one_line(self.body.decode("utf-8", "replace"))


def one_line(text: str) -> str:
    """``text`` without line breaks and control characters, which a log or a terminal might obey."""
    return _NOT_TEXT.sub(" ", text).strip()


def signal_of(outcome: Outcome) -> DeliverySignal:
    """The signal that an adapter raises for a send that came to ``outcome``, which is no success."""
    match outcome:
        case Retry(error, wanted_ms):
            return RetryLater(error, None if wanted_ms is None else wanted_ms / 1000)
        case Rejected(error, destination_gone):
            return PermanentFailure(error, destination_gone=destination_gone)
        case Unknown(error):
            return OutcomeUnknown(error)
        case Delivered() | Deferred() | Withheld():
            raise AssertionError(f"{outcome!r} is no failure")
        case _:
            assert_never(outcome)


def _without_query(location: str) -> str:
    try:
        return str(URL(location).with_user(None).with_query(None).with_fragment(None))
    except ValueError:
        return "what is no URL"
