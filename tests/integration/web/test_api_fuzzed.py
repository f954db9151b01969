"""The API against its own description: what that allows is answered as it says, and what it forbids is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
)
from werkzeug.test import Client

from outbox import Outbox
from outbox.web import Open, Role, create_app
from outbox.web.openapi import document
from outbox.web.visiting import SESSION_COOKIE
from tests.integration.web.browsing import LOOPBACK

CHECKS = [
    not_a_server_error, content_type_conformance, negative_data_rejection, positive_data_acceptance,
    response_schema_conformance, status_code_conformance,
]  # fmt: skip
OPERATIONS = [f"{method.upper()} {path}" for path, item in document()["paths"].items() for method in item]


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    """The description, of a dashboard that every request reaches within one session."""
    path: Path = tmp_path_factory.mktemp("fuzzed") / "outbox.db"
    outbox = Outbox(f"sqlite:///{path}")
    outbox.upgrade_schema()
    app = create_app(outbox, auth=Open("ada", Role.ADMIN))
    client = Client(app)
    token = client.get("/api/v1/session", base_url="http://localhost", environ_overrides=LOOPBACK).json["csrf_token"]
    cookie = client.get_cookie(SESSION_COOKIE, "localhost")
    assert cookie is not None
    session = {"HTTP_HOST": "localhost", "HTTP_COOKIE": f"{SESSION_COOKIE}={cookie.value}", "HTTP_X_CSRF_TOKEN": token}
    yield schemathesis.openapi.from_wsgi(
        "/api/v1/openapi.json", lambda environ, start: app({**environ, **LOOPBACK, **session}, start)
    )
    outbox.close()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "forbidden"])
@pytest.mark.parametrize("label", OPERATIONS)
def test_the_api_keeps_what_its_description_promises(schema: schemathesis.BaseSchema, label: str, mode: GenerationMode) -> None:
    (operation,) = [each.ok() for each in schema.get_all_operations() if each.ok().label == label]

    @settings(
        max_examples=25, derandomize=True, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        case.validate_response(case.call(), checks=CHECKS)

    ask()
