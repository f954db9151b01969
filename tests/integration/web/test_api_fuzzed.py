"""The API against its own description: what that allows is answered as it says, and what it forbids is refused.

There is something of everything in the outbox, and whatever is allowed is asked of that too.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
)
from werkzeug.test import Client

from outbox import Outbox
from outbox.lifecycle import Status
from outbox.web import Open, Role, create_app
from outbox.web.openapi import document
from outbox.web.visiting import SESSION_COOKIE
from tests.integration.web.browsing import LOOPBACK
from tests.integration.web.peopled import CHANNEL, TARGET, TURN, people

CHECKS = [
    not_a_server_error, content_type_conformance, positive_data_acceptance, response_schema_conformance,
    status_code_conformance,
]  # fmt: skip
OPERATIONS = [f"{method.upper()} {path}" for path, item in document()["paths"].items() for method in item]


KNOWN: dict[str, list[str]] = {
    "channel": [CHANNEL, "mail"],
    "target": [TARGET],
    "turn_id": [TURN],
    "status": list(Status),
    "q": [TURN, "order parked-1", "customer 1"],
}
"""What is there, by the names of parameters and filters."""


@dataclass
class Fuzzed:
    """A dashboard that every request reaches within one session, and its description."""

    schema: schemathesis.BaseSchema
    outbox: Outbox
    ids: list[str]
    met: Counter[str] = field(default_factory=Counter)
    """By operation, how many answers told of a message that is there."""


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def fuzzed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    with ExitStack() as resources:
        url = f"sqlite:///{tmp_path_factory.mktemp('fuzzed') / 'outbox.db'}"
        if request.param == "postgresql":
            url = resources.enter_context(request.getfixturevalue("postgres_server").database())
        outbox = resources.enter_context(closing(Outbox(url)))
        outbox.upgrade_schema()
        app = create_app(outbox, auth=Open("ada", Role.ADMIN))
        client = Client(app)
        token = client.get("/api/v1/session", base_url="http://localhost", environ_overrides=LOOPBACK).json["csrf_token"]
        cookie = client.get_cookie(SESSION_COOKIE, "localhost")
        assert cookie is not None
        session = {"HTTP_HOST": "localhost", "HTTP_COOKIE": f"{SESSION_COOKIE}={cookie.value}", "HTTP_X_CSRF_TOKEN": token}
        schema = schemathesis.openapi.from_wsgi(
            "/api/v1/openapi.json", lambda environ, start: app({**environ, **LOOPBACK, **session}, start)
        )
        yield Fuzzed(schema, outbox, people(outbox))


@pytest.mark.parametrize("label", OPERATIONS)
def test_the_api_keeps_what_its_description_promises_of_what_is_there_and_what_is_not(fuzzed: Fuzzed, label: str) -> None:
    @asked(25)
    @given(operation(fuzzed, label).as_strategy(generation_mode=GenerationMode.POSITIVE), st.data())
    def ask(case: schemathesis.Case, data: st.DataObject) -> None:
        if data.draw(st.integers(0, 3)):
            point_at_what_is_there(case, fuzzed.ids, lambda choices: data.draw(st.sampled_from(choices)))
        answer = case.call()
        case.validate_response(answer, checks=CHECKS)
        fuzzed.met[label] += answer.status_code == 200 and any(one in answer.text for one in fuzzed.ids)

    ask()

    assert fuzzed.met[label] >= 3 or "message" not in label
    assert fuzzed.outbox.store.violations(10) == []


@pytest.mark.parametrize("fuzzed", ["sqlite"], indirect=True)
@pytest.mark.parametrize("label", OPERATIONS)
def test_the_api_refuses_what_its_description_forbids(fuzzed: Fuzzed, label: str) -> None:
    @asked(25)
    @given(operation(fuzzed, label).as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def ask(case: schemathesis.Case) -> None:
        refused = [] if is_allowed_after_all(case) else [negative_data_rejection]
        case.validate_response(case.call(), checks=[*CHECKS, *refused])

    ask()


def is_allowed_after_all(case: schemathesis.Case) -> bool:
    """The generator holds some texts of a path for such as break its pattern, which do not, and means credentials as well,
    which nobody reads where nobody has to log in.
    """
    assert case.meta is not None
    broken = {place for place, part in case.meta.components.items() if part.mode.is_negative}
    in_path = (case.path_parameters or {}).values()
    return broken <= {ParameterLocation.PATH, ParameterLocation.HEADER} and not any("\0" in str(text) for text in in_path)


def operation(fuzzed: Fuzzed, label: str) -> Any:
    (found,) = [each.ok() for each in fuzzed.schema.get_all_operations() if each.ok().label == label]
    return found


def asked(times: int) -> settings:
    return settings(
        max_examples=times, derandomize=True, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def point_at_what_is_there(case: schemathesis.Case, ids: list[str], choose: Callable[[list[str]], str]) -> None:
    """Let a request that is allowed name messages, channels, targets and statuses that there are, where it names any."""
    known = {**KNOWN, "message_id": ids}
    body = case.body if isinstance(case.body, dict) else {}
    for place in (case.path_parameters, case.query, body, body.get("filter")):
        for name in (place or {}).keys() & known.keys():
            place[name] = choose(known[name])
    if "ids" in body:
        body["ids"] = [choose(ids) for _ in body["ids"]]
