"""The style sheet and the script, from the package."""

import hashlib
import mimetypes
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from werkzeug.wrappers import Response

from outbox.web.problems import Problem

if TYPE_CHECKING:
    from outbox.web.visiting import Visit

_KEPT_S = 365 * 86_400


def static(visit: "Visit", name: str) -> Response:
    """One file; addresses that name its content may be kept by browsers for ever."""
    if name not in _names():
        raise Problem(404, "not-found", "there is no such file")
    response = Response(_content(name), content_type=f"{mimetypes.guess_type(name)[0]}; charset=utf-8")
    if visit.request.args.get("v") == version(name):
        response.headers["Cache-Control"] = f"public, max-age={_KEPT_S}, immutable"
    return response


@cache
def version(name: str) -> str:
    """Changes with the content of the file."""
    return hashlib.sha256(_content(name)).hexdigest()[:12]


@cache
def _names() -> frozenset[str]:
    return frozenset(file.name for file in (resources.files("outbox.web") / "static").iterdir() if file.is_file())


@cache
def _content(name: str) -> bytes:
    return (resources.files("outbox.web") / "static" / name).read_bytes()
