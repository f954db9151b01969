"""The shops of the Flask and the FastAPI guide, started by the commands that the guides show."""

import httpx
import pytest

from tests.integration.documentation.blocks import code
from tests.integration.documentation.walking import Walk
from tests.servers.kept import free_port
from tests.servers.supervised import eventually

DELIVERED = """
$ {outbox} status
channel    delivered  oldest due
warehouse  1
"""


def order(walk: Walk, port: int) -> None:
    """Order something, as soon as the shop is open."""

    def is_taken() -> bool:
        try:
            return httpx.post(f"http://127.0.0.1:{port}/orders").status_code == 201
        except httpx.TransportError:
            return False

    eventually(is_taken, f"nobody takes orders: {walk.logs()}")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_flask_guides_shop_delivers_what_it_commits(walk: Walk) -> None:
    shop, *_elsewhere = code("docs/guides/flask.md", "python")  # the others: tests/integration/flask/test_guide.py
    [starting] = code("docs/guides/flask.md", "console")
    worker = starting.split("# worker.py: ")[1].splitlines()[0]
    walk.write(shop)
    walk.write(f"# worker.py\nimport shop\n{worker}\n")
    port = free_port()
    tables = "import shop; app = shop.create_app(); app.app_context().push(); shop.db.create_all()"
    walk.type(f'$ export FLASK_RUN_PORT={port}\n$ python -c "{tables}"')
    walk.type(starting)
    order(walk, port)
    walk.type(DELIVERED.format(outbox="flask --app shop outbox"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_fastapi_guides_shop_delivers_what_it_commits(walk: Walk) -> None:
    shop, *_elsewhere = code("docs/guides/fastapi.md", "python")  # the others: tests/integration/fastapi/test_guide.py
    [starting] = code("docs/guides/fastapi.md", "console")
    walk.write(shop)
    port = free_port()
    tables = "import shop; from sqlalchemy import create_engine as e; shop.Base.metadata.create_all(e('sqlite:///shop.db'))"
    walk.type(f'$ export UVICORN_PORT={port}\n$ python -c "{tables}"')
    walk.type(starting)
    order(walk, port)
    walk.type(DELIVERED.format(outbox="outbox --app shop:outbox"))
