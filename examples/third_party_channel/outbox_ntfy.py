"""The ``ntfy`` channel: push notifications through an ntfy server (https://docs.ntfy.sh/publish/). The target is the topic."""

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from outbox import Attempt, Channel, Message, NewMessage, OutcomeUnknown, PermanentFailure, Receipt, RetryLater
from outbox.errors import InvalidMessage

LONGEST_ANSWER = 64 * 1024


class Ntfy(Channel):
    """Publishes a text, with an optional title and one attachment by URL."""

    name = "ntfy"
    timeout = 10.0
    text_limit = 4_096
    secret_options = ("token",)

    def __init__(self, name: str | None = None, *, url: str = "https://ntfy.sh", token: str = "", **policy: Any) -> None:
        super().__init__(name, **policy)
        place = urlsplit(url)
        if place.scheme not in ("http", "https") or not place.hostname:
            raise ValueError("url must be that of an ntfy server, such as https://ntfy.sh")
        self._connect = HTTPSConnection if place.scheme == "https" else HTTPConnection
        self._server = place.netloc
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def check_message(self, message: NewMessage) -> None:
        """Refuse at enqueue what could not be said: a person sees that, and nobody sees a dead letter."""
        super().check_message(message)
        try:
            _request(message.target, message.payload)
        except (TypeError, ValueError) as error:
            raise InvalidMessage(f"channel {self.name!r}: {error}") from error

    def send_final(self, message: Message, attempt: Attempt) -> Receipt:
        """Publish it. What is raised says how far the request had come."""
        body = json.dumps(_request(message.target, message.payload)).encode()
        connection = self._connect(self._server, timeout=attempt.timeout_s)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise RetryLater(f"the server cannot be reached: {error}") from error
        try:
            connection.request("POST", "/", body, self._headers)
            answer = connection.getresponse()
            said = answer.read(LONGEST_ANSWER)
        except (OSError, HTTPException) as error:
            raise OutcomeUnknown(f"no answer came: {type(error).__name__}") from error
        finally:
            connection.close()
        return _judged(answer, said)


def _request(topic: str, payload: Any) -> Mapping[str, Any]:
    if not isinstance(payload, Mapping) or not isinstance(payload.get("text"), str) or not payload["text"]:
        raise TypeError("the payload must have a text")
    if unknown := payload.keys() - {"text", "title", "media"}:
        raise ValueError(f"a notification has no {', '.join(sorted(unknown))}")
    media = payload.get("media") or []
    if len(media) > 1 or not all(isinstance(url, str) for url in media):
        raise ValueError("a notification has one attachment at the most, by its URL")
    title = {"title": payload["title"]} if payload.get("title") else {}
    return {"topic": topic, "message": payload["text"], **title, **({"attach": media[0]} if media else {})}


def _judged(answer: HTTPResponse, said: bytes) -> Receipt:
    """What the answer means: a success, or the error to raise. Nothing of it that could hold the token is repeated."""
    if answer.status == 200:
        return Receipt(provider_id=_id(said))
    told = f"HTTP {answer.status}"
    if answer.status in (408, 429, 500, 503):
        raise RetryLater(told, after=_retry_after(answer))
    if 400 <= answer.status < 500:
        raise PermanentFailure(told)
    raise OutcomeUnknown(told)


def _id(said: bytes) -> str | None:
    try:
        return str(json.loads(said)["id"])
    except (ValueError, TypeError, KeyError):  # it was accepted all the same
        return None


def _retry_after(answer: HTTPResponse) -> float | None:
    header = answer.headers.get("Retry-After") or ""
    if header.isascii() and header.isdigit():
        return float(header)
    return None
