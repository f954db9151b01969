"""The people who talk to the bot over HTTP, some at once, each waiting for the answer before saying the next thing."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import requests

from examples.flask_bot.show.corpus import Conversation
from outbox.errors import OutboxError

AT_ONCE = 8
PAUSE_S = 0.2
FAILS_EVERY = 9
"""Of so many lines one is said first in a request that dies after its enqueue, and then again."""
PATIENCE_S = 60.0


class BotFailed(OutboxError):
    """The bot did not answer as it should."""


class People:
    """Says all lines of all conversations, in threads; the bot's answers are what the audit will go by."""

    def __init__(self, bot_url: str, conversations: Sequence[Conversation]) -> None:
        self._bot_url = bot_url
        self._conversations = conversations
        self._hushed = threading.Event()
        self._threads = ThreadPoolExecutor(AT_ONCE)
        self._talks: list[Future[None]] = []
        self.committed_at: dict[str, float] = {}
        """By message id, when the bot's transaction was committed (epoch seconds)."""
        self.rolled_back: set[str] = set()
        """Ids of messages whose transaction was rolled back."""

    @property
    def lines(self) -> int:
        """How many lines there are to say."""
        return sum(len(conversation.lines) for conversation in self._conversations)

    @property
    def silent(self) -> bool:
        """Whether all has been said. Raises what went wrong on the way."""
        for talk in self._talks:
            if talk.done():
                talk.result()
        return all(talk.done() for talk in self._talks)

    def talk(self) -> None:
        """Begin; returns at once."""
        self._talks = [self._threads.submit(self._converse, conversation) for conversation in self._conversations]

    def hush(self) -> None:
        """Say nothing more."""
        self._hushed.set()
        self._threads.shutdown(cancel_futures=True)

    def _converse(self, conversation: Conversation) -> None:
        url = f"{self._bot_url}/conversations/{conversation.name}"
        with requests.Session() as http:
            for number, text in enumerate(conversation.lines):
                if self._hushed.is_set():
                    return
                if number % FAILS_EVERY == FAILS_EVERY // 2:
                    self.rolled_back.add(_say(http, f"{url}?fail", text, expected=500)["rolled_back"])
                answer = _say(http, url, text, expected=201)
                self.committed_at[answer["message_id"]] = answer["committed_at"]
                time.sleep(PAUSE_S)


def _say(http: requests.Session, url: str, text: str, *, expected: int) -> dict[str, Any]:
    try:
        response = http.post(url, json={"text": text}, timeout=PATIENCE_S)
    except requests.RequestException as error:
        raise BotFailed(f"the bot does not answer: {error}") from error
    if response.status_code != expected:
        raise BotFailed(f"the bot answered {response.status_code} instead of {expected}; its log tells why")
    answer: dict[str, Any] = response.json()
    return answer
