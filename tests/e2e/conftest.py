"""The browser that the tests of a module share."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.e2e import browser as browsing

DESKTOP = {"width": 1280, "height": 860}

NewPage = Callable[..., Page]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = browsing.executable()
    if path is None:
        pytest.skip(browsing.MISSING)
    with browsing.chromium(path) as browser:
        yield browser


@pytest.fixture
def new_page(chromium: Browser) -> Iterator[NewPage]:
    """Pages without each other's cookies, closed when the test ends."""
    contexts: list[BrowserContext] = []

    def open_it(url: str, **options: object) -> Page:
        contexts.append(chromium.new_context(**{"viewport": DESKTOP, **options}))  # type: ignore[arg-type]
        page = contexts[-1].new_page()
        page.goto(url)
        return page

    yield open_it
    for context in contexts:
        context.close()
