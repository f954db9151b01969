"""Logging in and out, and the choice between light and dark."""

from werkzeug.utils import redirect
from werkzeug.wrappers import Response

from outbox.web import visiting
from outbox.web.access import Login
from outbox.web.problems import Problem
from outbox.web.sessions import Session
from outbox.web.visiting import THEME_COOKIE, THEMES, Visit

_THEME_KEPT_S = 365 * 86_400


def form(visit: Visit) -> Response:
    """The page on which people log in."""
    _login(visit)
    if visit.visitor is not None:
        return redirect(_destination(visit, visit.request.args.get("next")), 303)
    return visit.render("login.html", next=visit.request.args.get("next", ""), problem=None, name="")


def log_in(visit: Visit) -> Response:
    """Begin a session, with a new nonce: what somebody planted in the browser before is worth nothing after."""
    given = visit.request.form
    name = given.get("name", "")
    try:
        visit.session = visiting.log_in(visit.site, _login(visit), visit.request, name, given.get("password", ""))
    except Problem as problem:
        response = visit.render("login.html", problem.status, next=given.get("next", ""), problem=problem, name=name)
        response.headers.extend(problem.headers)
        return response
    return redirect(_destination(visit, given.get("next")), 303)


def log_out(visit: Visit) -> Response:
    """End the session."""
    visit.session = Session()
    return redirect(visit.url("overview"), 303)


def choose_theme(visit: Visit) -> Response:
    """Remember the next of: as the system has it, light, dark."""
    theme = THEMES[(THEMES.index(visit.theme) + 1) % len(THEMES)]
    response = redirect(_destination(visit, visit.request.form.get("next")), 303)
    visit.remember(response, THEME_COOKIE, theme, _THEME_KEPT_S)
    return response


def _login(visit: Visit) -> Login:
    if not isinstance(visit.site.auth, Login):
        raise Problem(404, "not-found", "nobody logs in here")
    return visit.site.auth


def _destination(visit: Visit, path: str | None) -> str:
    """Where to go next: a page of ours, whatever the link said."""
    if not path or not path.startswith("/") or path.startswith(("//", "/\\")) or not path.isprintable():
        return visit.url("overview")
    return visit.request.root_path + path
