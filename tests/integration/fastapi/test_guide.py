"""The guide's application runs as it stands, by the test that the guide shows."""

import asyncio
import sys
import types
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import Request
from starlette.middleware.sessions import SessionMiddleware

from outbox.integrations.celery.nudge import Nudge
from tests.integration.documentation.blocks import code

SHOP, DASHBOARD, TEST = code("docs/guides/fastapi.md", "python")


def run(block: str, name: str, **names: Any) -> types.ModuleType:
    """The module of that name which the block is; FastAPI finds its annotations there."""
    module = types.ModuleType(name)
    vars(module).update(names)
    exec(compile(block, f"{name}.py", "exec"), vars(module))
    return module


@pytest.fixture
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.chdir(tmp_path)
    shop: Any = run(SHOP, "shop")
    monkeypatch.setitem(sys.modules, "shop", shop)
    shop.outbox.upgrade_schema()
    async with shop.engine.begin() as connection:
        await connection.run_sync(shop.Base.metadata.create_all)
    yield shop
    shop.celery.close()
    await shop.engine.dispose()


async def test_its_application_packs_what_was_ordered_as_its_test_says(shop: Any) -> None:
    shop.celery.conf.task_always_eager = True
    told = run(TEST, "told", asyncio=asyncio, **vars(shop))
    transport = httpx.ASGITransport(shop.app)
    async with (
        shop.app.router.lifespan_context(shop.app),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        await told.test_an_order_is_packed(client)


async def test_its_web_process_wakes_the_relay_when_it_has_committed(shop: Any) -> None:
    assert isinstance(shop.outbox.on_commit, Nudge)


async def test_its_dashboard_lets_in_whom_the_session_knows(shop: Any) -> None:
    secret = "only for tests, and thirty-two long"
    run(DASHBOARD, "operating", app=shop.app, outbox=shop.outbox, settings=SimpleNamespace(secret=secret))

    @shop.app.get("/login")
    async def log_in(request: Request) -> None:
        request.session["user"] = "ada"

    shop.app.add_middleware(SessionMiddleware, secret_key=secret)
    transport = httpx.ASGITransport(shop.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        refused = await client.get("/outbox/")
        assert (refused.status_code, refused.headers["location"].partition("?")[0]) == (303, "/login")
        await client.get("/login")
        assert (await client.get("/outbox/")).status_code == 200
