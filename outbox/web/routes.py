"""Which address is answered by what, and who may ask."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Response

from outbox.web import api, files, logins, openapi, pages

API_PREFIX = "/api/"


class Needs(Enum):
    """What a visitor must be for an answer."""

    NOTHING = "nothing"
    LOOKING = "looking"
    ACTING = "acting"


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one address. The view's name is its endpoint."""

    method: str
    path: str
    view: Callable[..., Response]
    endpoint: str
    needs: Needs = Needs.LOOKING


ROUTES = (
    Route("GET", "/", pages.overview, "overview"),
    Route("GET", "/messages", pages.messages, "messages"),
    Route("GET", "/messages/<message_id>", pages.message, "message"),
    Route("POST", "/messages/act", pages.act, "act", Needs.ACTING),
    Route("POST", "/channels/pause", pages.pause, "pause", Needs.ACTING),
    Route("POST", "/channels/resume", pages.resume, "resume", Needs.ACTING),
    Route("GET", "/login", logins.form, "login", Needs.NOTHING),
    Route("POST", "/login", logins.log_in, "log_in", Needs.NOTHING),
    Route("POST", "/logout", logins.log_out, "log_out", Needs.NOTHING),
    Route("POST", "/theme", logins.choose_theme, "theme", Needs.NOTHING),
    Route("GET", "/static/<name>", files.static, "static", Needs.NOTHING),
    Route("GET", "/api/v1/openapi.json", openapi.view, "api_openapi", Needs.NOTHING),
    Route("GET", "/api/v1/session", api.session, "api_session"),
    Route("GET", "/api/v1/overview", api.overview, "api_overview"),
    Route("GET", "/api/v1/series", api.series, "api_series"),
    Route("GET", "/api/v1/messages", api.messages, "api_messages"),
    Route("GET", "/api/v1/messages/<message_id>", api.message, "api_message"),
    Route("POST", "/api/v1/messages/<any(retry, cancel, resolve):verb>", api.act, "api_act", Needs.ACTING),
    Route("POST", "/api/v1/channels/<channel>/pause", api.pause, "api_pause", Needs.ACTING),
    Route("POST", "/api/v1/channels/<channel>/resume", api.resume, "api_resume", Needs.ACTING),
)
BY_ENDPOINT = {route.endpoint: route for route in ROUTES}


def url_map() -> Map:
    """The routes, for Werkzeug."""
    return Map([Rule(route.path, methods=[route.method], endpoint=route.endpoint) for route in ROUTES], merge_slashes=False)
