"""A way from Flower's pages to the dashboard, beside its own tabs.

Flower has no place for it, so its template of the navigation is written anew. Where that has changed too much the link is
missing, and nothing else.
"""

import html
import logging
from pathlib import Path

from flower import urls
from tornado.template import DictLoader

from config.settings import Settings

_log = logging.getLogger("outbox")
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - what others may have chosen to listen on
_NAVIGATION = "navbar.html"


def link_to_dashboard(settings: Settings) -> None:
    """Add the tab, where the service has a dashboard."""
    if not settings.dashboard:
        return
    host = "127.0.0.1" if settings.dashboard_host in _EVERYWHERE else settings.dashboard_host
    try:
        directory = Path(urls.settings["template_path"])
        pages = {page.relative_to(directory).as_posix(): page.read_text(encoding="utf-8") for page in directory.rglob("*.html")}
        pages[_NAVIGATION] = _with_tab(pages[_NAVIGATION], f"http://{host}:{settings.dashboard_port}/")
    except (AttributeError, LookupError, OSError) as error:
        _log.warning("Flower has no link to the dashboard: its pages are not what they were (%s)", error)
    else:
        urls.settings["template_loader"] = DictLoader(pages)


def _with_tab(navigation: str, address: str) -> str:
    """The template with a tab behind those of the first list. Raises :class:`LookupError` when it has none."""
    tabs, end, rest = navigation.partition("</ul>")
    if not end:
        raise LookupError("no list of tabs")
    return f'{tabs}<li class="nav-item"><a class="nav-link" href="{html.escape(address)}">Outbox</a></li>\n{end}{rest}'
