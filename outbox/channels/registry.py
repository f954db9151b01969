"""Which channels an outbox has, and how one is built from configuration."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from outbox.channels.base import POLICY_OPTIONS, Channel
from outbox.channels.validation import validate
from outbox.errors import ConfigurationError, UnknownChannel, did_you_mean

ENTRY_POINT_GROUP = "outbox.channels"

_BUILT_IN = {
    "apprise": ("outbox.channels.apprise", "Apprise"),
    "celery": ("outbox.integrations.celery.channel", "CeleryTasks"),
    "console": ("outbox.channels.console", "Console"),
    "discord": ("outbox.channels.discord", "Discord"),
    "email": ("outbox.channels.email", "Email"),
    "matrix": ("outbox.channels.matrix", "Matrix"),
    "slack": ("outbox.channels.slack", "Slack"),
    "telegram": ("outbox.channels.telegram", "Telegram"),
    "webhook": ("outbox.channels.webhook", "Webhook"),
}
"""Kind → module and class."""


class ChannelRegistry:
    """The channels of one outbox, by name. An empty registry belongs to an application that only enqueues."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel] = {}
        self._implied: set[str] = set()
        self._subscribers: list[Callable[[Channel], None]] = []

    @property
    def complete(self) -> bool:
        """Whether the application named its channels: where it did not, because it only enqueues, no name is wrong."""
        return len(self._channels) > len(self._implied)

    def register(self, channel: Channel, *, implied: bool = False) -> None:
        """Add a channel. Raises :class:`~outbox.errors.ConfigurationError` when it could not work or its name is taken.

        ``implied`` is one that an integration brings along: it says nothing of which others there are.
        """
        validate(channel)
        if channel.name in self._channels:
            raise ConfigurationError(f"channel {channel.name!r} is registered twice")
        self._channels[channel.name] = channel
        if implied:
            self._implied.add(channel.name)
        for subscriber in self._subscribers:
            subscriber(channel)

    def subscribe(self, subscriber: Callable[[Channel], None]) -> None:
        """Call ``subscriber`` with every channel, those that are here and those to come."""
        self._subscribers.append(subscriber)
        for channel in self:
            subscriber(channel)

    def get(self, name: str) -> Channel:
        """The channel of that name. Raises :class:`~outbox.errors.UnknownChannel`."""
        try:
            return self._channels[name]
        except KeyError:
            known = ", ".join(sorted(self._channels)) or "none"
            hint = did_you_mean(name, self._channels)
            raise UnknownChannel(f"no channel {name!r} is registered{hint} (registered: {known})") from None

    def find(self, name: str) -> Channel | None:
        """The channel of that name, or ``None``."""
        return self._channels.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._channels

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._channels.values())

    def __len__(self) -> int:
        return len(self._channels)


def build(name: str, options: Mapping[str, Any]) -> Channel:
    """A channel from one table of ``channels.toml``: ``kind`` names the adapter (default: the table's own name).

    Raises :class:`~outbox.errors.ConfigurationError` for an unknown kind, an unknown or missing option, or a bad value.
    """
    arguments = dict(options)
    kind = arguments.pop("kind", name)
    adapter = _adapter(str(kind), name)
    _refuse_unknown_options(name, adapter, arguments)
    try:
        channel = adapter(name=name, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"channel {name!r}: {error}") from error
    validate(channel)
    return channel


def kinds() -> list[str]:
    """The adapters that can be named as ``kind``, built in and installed."""
    return sorted({*_BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))})


def _adapter(kind: str, name: str) -> type[Channel]:
    if kind in _BUILT_IN:
        module, attribute = _BUILT_IN[kind]
        loaded = getattr(import_module(module), attribute)
    else:
        loaded = _installed_adapter(kind, name)
    if not (inspect.isclass(loaded) and issubclass(loaded, Channel)):
        raise ConfigurationError(f"channel {name!r}: the adapter {kind!r} is not a subclass of outbox.Channel")
    return loaded


def _installed_adapter(kind: str, name: str) -> Any:
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == kind:
            return point.load()
    raise ConfigurationError(
        f"channel {name!r}: there is no adapter {kind!r}{did_you_mean(kind, kinds())} (known: {', '.join(kinds())})"
    )


def _refuse_unknown_options(name: str, adapter: type[Channel], arguments: Mapping[str, Any]) -> None:
    own = {
        parameter.name
        for parameter in inspect.signature(adapter.__init__).parameters.values()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    } - {"self", "name"}
    known = own | POLICY_OPTIONS
    for option in arguments:
        if option not in known:
            raise ConfigurationError(f"channel {name!r} has no option {option!r}{did_you_mean(option, known)}")
