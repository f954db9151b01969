"""The API's own description, OpenAPI 3.1, as it is served."""

import json
from functools import cache
from importlib.metadata import version
from typing import Any

from werkzeug.wrappers import Response

from outbox.lifecycle import Status
from outbox.message import AttemptRecord, Message
from outbox.store.records import Gate, GateOperation, Line, OperationRecord, Refusal
from outbox.web import acting, api, reading, schemas
from outbox.web.access import Role
from outbox.web.charts import Span
from outbox.web.problems import MEDIA_TYPE
from outbox.web.schemas import Schema, array, choice, nullable, shape
from outbox.web.visiting import SESSION_COOKIE, Visit

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_FLAG: Schema = {"type": "boolean"}
_GIVEN: Schema = {"type": "string", "pattern": r"^[^\u0000]*$"}
"""Text that somebody sends: what no database stores is refused."""
_FILTER: Schema = {
    **shape({"status": choice(Status), **{name: {**_GIVEN, "minLength": 1} for name in api.FILTERS[1:]}}, *api.FILTERS),
    "minProperties": 1,
}
_REASON: Schema = {**_GIVEN, "maxLength": acting.LONGEST_REASON, "description": "Why, for the record."}
_PLACE: Schema = {"type": "string", "pattern": r"^([0-9]{1,18}(\.[0-9]{1,18})?)?$"}


def view(visit: Visit) -> Response:
    """The document, for where this dashboard is mounted."""
    content = {**document(), "servers": [{"url": visit.request.root_path or "/"}]}
    return Response(json.dumps(content), content_type="application/json")


@cache
def document() -> dict[str, Any]:
    """All that the API does."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "celery-outbox",
            "version": version("celery-outbox"),
            "description": "What waits, what failed and why, and what to do about it. Errors are RFC 9457 problems.",
        },
        "security": [{"session": [], "token": []}, {"password": []}],
        "paths": {**_reading(), **_acting()},
        "components": {
            "schemas": _schemas(),
            "responses": {"Problem": {"description": "A problem.", "content": {MEDIA_TYPE: {"schema": _ref("Problem")}}}},
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE},
                "token": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token", "description": "Not needed for GET."},
                "password": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _reading() -> dict[str, Any]:
    status, *texts = (_query(name, _or_empty(schema)) for name, schema in _FILTER["properties"].items())
    limit: Schema = {"type": "integer", "minimum": 1, "maximum": reading.LONGEST_PAGE, "default": reading.PAGE_LIMIT}
    return {
        "/api/v1/session": {"get": _operation("session", "Who asks, and the token for changes", "Session")},
        "/api/v1/overview": {"get": _operation("overview", "Counts, ages and gates", "Overview")},
        "/api/v1/series": {
            "get": _operation(
                "series", "What ended over time, and how long deliveries took", "Series",
                _query("span", _or_empty({"type": "string", "enum": [span.key for span in Span]})), _query("channel", _GIVEN),
            )
        },
        "/api/v1/messages": {
            "get": _operation(
                "listMessages", "Messages, newest first; what has a terminal status by when it ended", "Messages",
                status, *texts, _query("q", _GIVEN, "An id, turn, idempotency key, or ordering key of what has not ended."),
                _query("after", _PLACE, "`next` of the page before."), _query("limit", limit),
            )
        },
        "/api/v1/messages/{message_id}": {
            "get": _operation("showMessage", "All that is known of a message", "Message", _in_path("message_id"))
        },
    }  # fmt: skip


def _acting() -> dict[str, Any]:
    ids = array(_GIVEN, minItems=1, maxItems=api.MOST_IDS)
    meant = {
        **shape({"ids": ids, "filter": _FILTER, "reason": _REASON}, "ids", "filter", "reason"),
        "oneOf": [{"required": ["ids"]}, {"required": ["filter"]}],
    }
    resolved = {**meant, **shape({**meant["properties"], "sent": _FLAG}, *meant["properties"])}
    length = {**_NUMBER, "exclusiveMinimum": 0, "maximum": acting.LONGEST_PAUSE_S}
    paused = shape({"target": {**_GIVEN, "maxLength": 500}, "for_s": length, "reason": _REASON}, "target", "for_s", "reason")
    resumed = shape({"target": _GIVEN, "all_targets": _FLAG, "reason": _REASON}, "target", "all_targets", "reason")
    channel = _in_path("channel")
    return {
        "/api/v1/messages/retry": _change("retry", "Make terminal or parked messages due again", "Result", meant),
        "/api/v1/messages/cancel": _change("cancel", "Withdraw messages that are not being sent", "Result", meant),
        "/api/v1/messages/resolve": _change("resolve", "Say of parked messages whether they were sent", "Result", resolved),
        "/api/v1/channels/{channel}/pause": _change(
            "pause", "Stop sending through a channel or to one target", "Paused", paused, channel
        ),
        "/api/v1/channels/{channel}/resume": _change(
            "resume", "Open a channel or one of its targets", "Resumed", resumed, channel
        ),
    }


def _schemas() -> dict[str, Schema]:
    counts = shape({str(status): shape({"rows": _COUNT, "at_least": _FLAG}) for status in Status})
    channel = {
        "channel": _TEXT, "counts": counts, "oldest_due_age_ms": nullable(_COUNT), "in_flight": _COUNT,
        "max_in_flight": nullable(_COUNT), "closed": _FLAG,
    }  # fmt: skip
    step = {
        "start": _TEXT, "delivered": _COUNT, "failed": _COUNT, "other": _COUNT, "latency_average_ms": nullable(_NUMBER),
        "latency_max_ms": nullable(_COUNT),
    }  # fmt: skip
    message = schemas.message(Message)
    records = {"attempts": array(_ref("Attempt")), "operations": array(_ref("Operation"))}
    message["properties"].update(records)
    message["required"] += records
    problem = {"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT}
    session = {
        "name": nullable(_TEXT), "role": nullable(choice(Role)), "may_act": _FLAG, "may_see_content": _FLAG,
        "csrf_token": _TEXT,
    }  # fmt: skip
    return {
        "Session": shape(session),
        "Overview": shape(
            {
                "now": _TEXT,
                "channels": array(shape(channel)),
                "gates": array(_ref("Gate")),
                "gate_operations": array(_ref("GateOperation")),
            }
        ),
        "Gate": schemas.record(Gate),
        "GateOperation": schemas.record(GateOperation),
        "Series": shape({"span": _TEXT, "step_ms": _COUNT, "steps": array(shape(step))}),
        "Line": schemas.record(Line),
        "Messages": shape({"messages": array(_ref("Line")), "next": nullable(_TEXT)}),
        "Message": message,
        "Attempt": schemas.record(AttemptRecord),
        "Operation": schemas.record(OperationRecord),
        "Result": shape({"changed": array(_TEXT), "refused": array(schemas.record(Refusal))}),
        "Paused": shape({"channel": _TEXT, "target": _TEXT}),
        "Resumed": shape({"channel": _TEXT, "opened": _COUNT}),
        "Problem": shape(problem),
    }


def _operation(name: str, summary: str, answer: str, *parameters: Schema) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(answer)}}
    problem = {"$ref": "#/components/responses/Problem"}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": list(parameters),
        "responses": {"200": {"description": "Done.", "content": content}, "4XX": problem, "5XX": problem},
    }


def _change(name: str, summary: str, answer: str, body: Schema, *parameters: Schema) -> dict[str, Any]:
    request = {"required": True, "content": {"application/json": {"schema": body}}}
    return {"post": _operation(name, summary, answer, *parameters) | {"requestBody": request}}


def _or_empty(schema: Schema) -> Schema:
    """A form sends every field: an empty one restricts nothing."""
    return {**schema, "enum": [*schema["enum"], ""]} if "enum" in schema else {**schema, "minLength": 0}


def _query(name: str, schema: Schema, description: str = "") -> Schema:
    return {"name": name, "in": "query", "schema": schema, **({"description": description} if description else {})}


def _in_path(name: str) -> Schema:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {**_GIVEN, "minLength": 1, "maxLength": acting.LONGEST_CHANNEL},
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
