"""The guide's application runs as it stands, by the test that the guide shows."""

import asyncio
import re
import sys
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.supervised import PROJECT

GUIDE = (PROJECT / "docs/guides/fastapi.md").read_text()


def block(first_words: str) -> str:
    """The Python block of the guide that begins with these words."""
    [code] = re.findall(rf"^```python\n({re.escape(first_words)}.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    return str(code)


def run(block: str, name: str, **names: Any) -> types.ModuleType:
    """The module of that name which the block is; FastAPI finds its annotations there."""
    module = types.ModuleType(name)
    vars(module).update(names)
    exec(compile(block, f"{name}.py", "exec"), vars(module))
    return module


@pytest.fixture
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.chdir(tmp_path)
    shop: Any = run(block("# shop.py"), "shop")
    monkeypatch.setitem(sys.modules, "shop", shop)
    shop.outbox.upgrade_schema()
    async with shop.engine.begin() as connection:
        await connection.run_sync(shop.Base.metadata.create_all)
    yield shop
    await shop.engine.dispose()


async def test_its_application_packs_what_was_ordered_as_its_test_says(shop: Any) -> None:
    worker = run(block("# worker.py"), "worker")
    worker.app.conf.task_always_eager = True
    told = run(block("async def test_an_order_is_packed"), "told", asyncio=asyncio, **vars(shop))
    transport = httpx.ASGITransport(shop.app)
    async with (
        shop.app.router.lifespan_context(shop.app),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        await told.test_an_order_is_packed(client)
    worker.app.close()
