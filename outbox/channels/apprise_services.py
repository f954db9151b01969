"""The services of the ``apprise`` channel: URLs with tokens in them, each leading to one place."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from apprise import Apprise, AppriseAsset, NotifyBase
from apprise.common import OverflowMode
from apprise.utils.parse import parse_urls

from outbox.channels.apprise_log import overheard
from outbox.errors import PermanentFailure

# The database alone tries again, times out and bounds sizes; a redirect would turn a POST into a GET that says 200.
ASSET = AppriseAsset(async_mode=False, service_timeout=0, payload_max_size=0, http_redirects=False)

_SHORTEST_CONFIDENTIAL = 5
_BETWEEN_PARTS = re.compile(r"[/?&=@:#,;]+")


@dataclass(frozen=True, slots=True)
class Service:
    """One place that notifications go to. The URL is a secret."""

    url: str = field(repr=False)
    takes_files: bool = True

    def plugin(self) -> NotifyBase:
        """A new plugin of apprise for it. Raises :class:`~outbox.PermanentFailure` when there is none."""
        plugin = Apprise.instantiate(self.url, asset=ASSET)
        if not isinstance(plugin, NotifyBase):
            raise PermanentFailure("apprise cannot use the service's URL")
        return plugin

    @property
    def confidential(self) -> list[str]:
        """The parts of the URL, as they are written and as they are meant; tokens are among them."""
        parts = _BETWEEN_PARTS.split(self.url.partition("://")[2])
        return [text for part in parts for text in {part, unquote(part)} if len(text) >= _SHORTEST_CONFIDENTIAL]


def read_services(services: Any, accounts: Any) -> dict[str, dict[str, Service]]:
    """The services by account and name; the empty account is the channel's own.

    Raises :class:`ValueError`, whose text holds no URL, for what could not work or would not tell of its failures.
    """
    _load_plugins()
    if not isinstance(accounts, Mapping | None):
        raise ValueError("accounts must be a table of tables")
    tables = {"": services or {}, **(accounts or {})}
    found = {account: _table(table, f" of account {account!r}" if account else "") for account, table in tables.items()}
    if not any(found.values()):
        raise ValueError("give services: a table of names and URLs of apprise")
    return found


def _load_plugins() -> None:
    """Let apprise import its plugins, which it does at the first URL and only once."""
    with overheard(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # one of them imports a module that Python is about to lose
        Apprise.instantiate("json://localhost", asset=ASSET)


def _table(table: Any, where: str) -> dict[str, Service]:
    if not isinstance(table, Mapping):
        raise ValueError(f"the services{where} must be a table of names and URLs")
    return {name: _checked(url, f"service {name!r}{where}") for name, url in table.items()}


def _checked(url: Any, label: str) -> Service:
    """A service that leads to one place: see docs/decisions/one-service-for-each-name.md."""
    if not isinstance(url, str) or len(parse_urls(url)) > 1:  # type: ignore[no-untyped-call]
        raise ValueError(f"{label} must be one URL of apprise; give each URL a name of its own")
    service = Service(url)
    with overheard():
        try:
            plugin = service.plugin()
        except PermanentFailure:
            raise ValueError(f"{label} is no URL that apprise can use") from None
    if plugin.retry:
        raise ValueError(f"{label} asks for retries of apprise's own; the outbox tries again by itself")
    if plugin.optional:
        raise ValueError(f"{label} is optional: its failures would be recorded as delivered")
    if plugin.overflow_mode is OverflowMode.SPLIT:
        raise ValueError(f"{label} splits long messages, and a part that was delivered would be sent again with the others")
    if len(plugin) > 1:
        raise ValueError(f"{label} leads to {len(plugin)} places; give each a name of its own")
    return replace(service, takes_files=bool(plugin.attachment_support))
