"""What goes wrong, as what people and programs are told: RFC 9457 problems, the same for pages and the API."""

import json
from dataclasses import dataclass, field
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.wrappers import Response

from outbox.errors import (
    ConfigurationError,
    DatabaseBusy,
    DatabaseUnavailable,
    InvalidMessage,
    MessageNotFound,
    OperationRefused,
    OutboxError,
    SchemaError,
)

MEDIA_TYPE = "application/problem+json"


@dataclass
class Problem(Exception):
    """A request that is not answered as it wished. ``kind`` names the sort of problem for programs and never changes."""

    status: int
    kind: str
    detail: str
    headers: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The status in words."""
        return HTTP_STATUS_CODES.get(self.status, "Unknown")

    def response(self) -> Response:
        """As ``application/problem+json``."""
        body = {"type": f"urn:outbox:problem:{self.kind}", "title": self.title, "status": self.status, "detail": self.detail}
        return Response(json.dumps(body | self.facts), self.status, self.headers, content_type=MEDIA_TYPE)


_OF_ERRORS: tuple[tuple[type[OutboxError], int, str], ...] = (
    (MessageNotFound, 404, "message-not-found"),
    (OperationRefused, 409, "operation-refused"),
    (DatabaseBusy, 503, "database-busy"),
    (DatabaseUnavailable, 503, "database-unavailable"),
    (SchemaError, 503, "schema-not-current"),
    (InvalidMessage, 422, "invalid-message"),
    (ConfigurationError, 422, "configuration-error"),
)


def problem_of(error: Exception) -> Problem | None:
    """The problem that an error is; ``None`` for a defect, of which nobody outside is told more than that."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        kind = error.name.lower().replace(" ", "-")
        headers = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
        return Problem(error.code or 500, kind, error.description or error.name, headers)
    for kind_of_error, status, kind in _OF_ERRORS:
        if isinstance(error, kind_of_error):
            return Problem(status, kind, str(error), {"Retry-After": "5"} if status == 503 else {})
    return None
