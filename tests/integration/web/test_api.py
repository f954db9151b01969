"""The JSON API: what it says is what its description promises, and what it refuses is a problem with a name."""

from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from outbox import Outbox
from outbox.web import openapi
from outbox.web.routes import API_PREFIX, ROUTES
from tests.integration.web.browsing import Browser
from tests.integration.web.conftest import Enqueue


def conforms(schema: str, answer: Any) -> None:
    """The answer is what the description says under that name."""
    resource = Resource(contents=openapi.document(), specification=DRAFT202012)
    registry = Registry().with_resource("urn:api", resource)
    OAS31Validator({"$ref": f"urn:api#/components/schemas/{schema}"}, registry=registry).validate(answer)


def test_the_description_is_valid_and_served_to_everybody(stranger: Browser) -> None:
    served = stranger.get("/api/v1/openapi.json").json
    validate(served)
    assert served["servers"] == [{"url": "/"}]


def test_the_description_names_every_address_of_the_api() -> None:
    described = {(path, method.upper()) for path, item in openapi.document()["paths"].items() for method in item}
    routed = set()
    for route in ROUTES:
        if route.path.startswith(API_PREFIX) and route.endpoint != "api_openapi":
            for verb in ("retry", "cancel", "resolve") if "<any" in route.path else ("",):
                path = route.path.replace("<any(retry, cancel, resolve):verb>", verb).replace("<", "{").replace(">", "}")
                routed.add((path, route.method))
    assert described == routed


def test_every_answer_is_what_the_description_promises(admin: Browser, end: Enqueue, enqueue: Enqueue, talker: Outbox) -> None:
    dead = end({"fail": "no"}, target="t", headers={"a": 1})
    parked = end({"unknown": "no answer"})
    waits = enqueue({"text": "x"}, turn_id="turn", expires_in=60)
    talker.pause("chat", target="t", for_s=60, actor="ada")
    conforms("Session", admin.call("GET", "/session").json)
    conforms("Overview", admin.call("GET", "/overview").json)
    conforms("Series", admin.call("GET", "/series?span=6h&channel=chat").json)
    listed = admin.call("GET", "/messages").json
    conforms("Messages", listed)
    assert [each["id"] for each in listed["messages"]] == [waits, parked, dead]
    for message_id in (dead, parked, waits):
        conforms("Message", admin.call("GET", f"/messages/{message_id}").json)
    conforms("Result", admin.call("POST", "/messages/retry", {"ids": [dead, waits], "reason": "again"}).json)
    conforms("Result", admin.call("POST", "/messages/resolve", {"ids": [parked], "sent": True}).json)
    conforms("Result", admin.call("POST", "/messages/cancel", {"filter": {"turn_id": "turn"}}).json)
    conforms("Paused", admin.call("POST", "/channels/chat/pause", {"for_s": 60.5, "reason": "r"}).json)
    conforms("Resumed", admin.call("POST", "/channels/chat/resume", {"all_targets": True, "reason": "r"}).json)


def test_without_the_role_the_content_is_left_out_as_described(operator: Browser, enqueue: Enqueue) -> None:
    shown = operator.call("GET", f"/messages/{enqueue({'text': 'x'})}").json
    conforms("Message", shown)
    assert "payload" not in shown


def test_a_list_is_walked_to_its_end(operator: Browser, enqueue: Enqueue) -> None:
    ids = [enqueue() for _ in range(5)]
    walked, query = [], "limit=2"
    while True:
        page = operator.call("GET", f"/messages?{query}").json
        walked += [each["id"] for each in page["messages"]]
        if page["next"] is None:
            break
        query = f"limit=2&after={page['next']}"
    assert walked == ids[::-1]


def test_messages_are_changed_by_filter_on_record(operator: Browser, end: Enqueue, talker: Outbox) -> None:
    dead, other = end({"fail": "no"}, target="a"), end({"fail": "no"}, target="b")
    body = {"filter": {"target": "a"}, "reason": "mended"}
    assert operator.call("POST", "/messages/retry", body).json == {"changed": [dead], "refused": []}
    assert talker.get(other).status == "failed_terminal"
    (operation,) = talker.store.operations(dead)
    assert (operation.actor, operation.reason) == ("grace", "mended")


@pytest.mark.parametrize(("sent", "status"), [(True, "delivered"), (False, "queued")])
def test_parked_messages_are_resolved_by_filter_and_no_others(
    operator: Browser, end: Enqueue, talker: Outbox, sent: bool, status: str
) -> None:
    parked = [end({"unknown": "no answer"}, target="a") for _ in range(2)]
    other, dead = end({"unknown": "no answer"}, target="b"), end({"fail": "no"}, target="a")
    body = {"filter": {"target": "a"}, "sent": sent, "reason": "they have none"}
    answer = operator.call("POST", "/messages/resolve", body).json
    conforms("Result", answer)
    assert answer == {"changed": sorted(parked), "refused": []}
    assert {talker.get(message_id).status for message_id in parked} == {status}
    assert (talker.get(other).status, talker.get(dead).status) == ("parked", "failed_terminal")


def test_what_an_action_does_not_apply_to_is_refused_by_name(operator: Browser, enqueue: Enqueue) -> None:
    message_id = enqueue()
    answer = operator.call("POST", "/messages/retry", {"ids": [message_id, "nothing", message_id]}).json
    assert answer["changed"] == []
    assert answer["refused"] == [
        {"id": message_id, "reason": "it is queued, so it will be tried anyway"},
        {"id": "nothing", "reason": "no message with that id is kept"},
    ]


def test_a_pause_is_undone_for_the_channel_alone_unless_all_targets_are_meant(operator: Browser, talker: Outbox) -> None:
    for body in ({}, {"target": "a"}, {"target": "b"}):
        operator.call("POST", "/channels/chat/pause", body)
    assert operator.call("POST", "/channels/chat/resume", {}).json == {"channel": "chat", "opened": 1}
    assert operator.call("POST", "/channels/chat/resume", {"target": "a"}).json["opened"] == 1
    assert operator.call("POST", "/channels/chat/resume", {"all_targets": True}).json["opened"] == 1


PROBLEMS = [
    ("GET", "/messages?statsu=parked", None, 400, "unknown-parameter"),
    ("GET", "/messages?status=odd", None, 400, "invalid-parameter"),
    ("GET", "/messages?limit=0", None, 400, "invalid-parameter"),
    ("GET", "/messages?limit=501", None, 400, "invalid-parameter"),
    ("GET", "/messages?limit=٣", None, 400, "invalid-parameter"),
    ("GET", "/messages?after=x", None, 400, "invalid-parameter"),
    ("GET", "/messages?target=%00", None, 400, "invalid-parameter"),
    ("GET", "/messages?q=%00", None, 400, "invalid-parameter"),
    ("GET", "/series?span=year", None, 400, "invalid-parameter"),
    ("GET", "/messages/nothing", None, 404, "message-not-found"),
    ("GET", "/messages/%00", None, 400, "invalid-parameter"),
    ("GET", "/nowhere", None, 404, "not-found"),
    ("POST", "/messages/retry", {}, 422, "invalid-body"),
    ("POST", "/messages/retry", [], 422, "invalid-body"),
    ("POST", "/messages/retry", {"ids": []}, 422, "invalid-body"),
    ("POST", "/messages/retry", {"ids": [1]}, 422, "invalid-body"),
    ("POST", "/messages/retry", {"ids": ["x"] * 1_001}, 422, "invalid-body"),
    ("POST", "/messages/retry", {"ids": ["x"], "filter": {"channel": "c"}}, 422, "invalid-body"),
    ("POST", "/messages/retry", {"ids": ["x"], "resaon": "y"}, 400, "unknown-parameter"),
    ("POST", "/messages/retry", {"filter": {}}, 400, "filter-needed"),
    ("POST", "/messages/retry", {"filter": {"channel": "c", "target": ""}}, 422, "invalid-body"),
    ("POST", "/messages/retry", {"filter": {"channel": 1}}, 400, "invalid-parameter"),
    ("POST", "/messages/retry", {"filter": {"chanel": "x"}}, 400, "unknown-parameter"),
    ("POST", "/messages/resolve", {"ids": ["x"]}, 422, "invalid-body"),
    ("POST", "/messages/resolve", {"filter": {}, "sent": True}, 400, "filter-needed"),
    ("POST", "/channels/chat/pause", {"for_s": 0}, 400, "invalid-parameter"),
    ("POST", "/channels/chat/pause", {"for_s": 1e30}, 400, "invalid-parameter"),
    ("POST", "/channels/chat/pause", {"for_s": True}, 422, "invalid-body"),
    ("POST", "/channels/chat/pause", {"target": "\0"}, 422, "invalid-body"),
    ("POST", "/channels/chat/pause", {"reason": "\ud800"}, 422, "invalid-body"),
    ("POST", "/messages/cancel", {"ids": ["\ud800"]}, 422, "invalid-body"),
    ("POST", "/messages/cancel", {"filter": {"target": "\0"}}, 422, "invalid-body"),
    ("POST", "/channels/chat/pause", {"target": "x" * 2_001}, 400, "invalid-parameter"),
    ("POST", "/channels/chat/pause", {"reason": "x" * 1_001}, 400, "invalid-parameter"),
    ("POST", "/channels/%00/pause", {}, 400, "invalid-parameter"),
    ("POST", "/channels/" + "c" * 64 + "/pause", {}, 400, "invalid-parameter"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "kind"), PROBLEMS)
def test_what_cannot_be_answered_is_a_problem_with_a_name(
    operator: Browser, talker: Outbox, method: str, path: str, body: object, status: int, kind: str
) -> None:
    response = operator.call(method, path, body)
    assert (response.status_code, response.json["type"]) == (status, f"urn:outbox:problem:{kind}")
    assert response.mimetype == "application/problem+json"
    conforms("Problem", response.json)
    assert talker.store.gates() == []


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b'{"for_s": NaN}', b'{"for_s": 1e999}'])
def test_what_is_no_json_is_a_problem(operator: Browser, talker: Outbox, body: bytes) -> None:
    token = operator.get("/api/v1/session").json["csrf_token"]
    response = operator.client.post(
        "/api/v1/channels/chat/pause", base_url=operator.base_url, data=body, content_type="application/json",
        headers={"X-CSRF-Token": token}, environ_overrides={"REMOTE_ADDR": "127.0.0.1"},
    )  # fmt: skip
    assert response.status_code == 400
    assert talker.store.gates() == []
