"""Channels that are functions of a Flask application's own."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from flask import Flask

from outbox.channels.base import FunctionChannel
from outbox.message import Attempt, Message


class FlaskFunction(FunctionChannel):
    """A function as a channel, plain or ``async``, called in a context of the application: with a ``db.session`` of its own."""

    def __init__(self, app: Flask, name: str, function: Callable[[Message, Attempt], Any], **policy: Any) -> None:
        super().__init__(name, _in_context(app, function), **policy)


def _in_context(app: Flask, function: Callable[[Message, Attempt], Any]) -> Callable[[Message, Attempt], Any]:
    """The context begins and ends in the thread or asyncio task that sends: extensions clear up after it as after a request."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def send(message: Message, attempt: Attempt) -> Any:
            with app.app_context():
                return await function(message, attempt)

    else:

        @functools.wraps(function)
        def send(message: Message, attempt: Attempt) -> Any:
            with app.app_context():
                return function(message, attempt)

    return send
