"""The WSGI application: each request is checked, answered by its view, and sent off with the headers that all carry."""

import logging
import uuid
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from werkzeug.routing import MapAdapter, RequestRedirect
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from outbox.outbox import Outbox
from outbox.web import guarding, problems
from outbox.web.access import Auth, Delegated, Login
from outbox.web.problems import Problem
from outbox.web.routes import API_PREFIX, BY_ENDPOINT, Needs, url_map
from outbox.web.sessions import Session
from outbox.web.throttling import Throttle
from outbox.web.visiting import Site, Visit, begin

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LONGEST_BODY = 1_000_000

_log = logging.getLogger("outbox.web")


def create_app(
    outbox: Outbox, *, auth: Auth, read_only: bool = False, allowed_hosts: Collection[str] | None = None
) -> "Dashboard":  # fmt: skip
    """The dashboard and its API, for any WSGI server, or mounted below a path of another application.

    :param auth: how visitors are known: :class:`~outbox.web.Login`, :class:`~outbox.web.Delegated` or, on the loopback
        interface only, :class:`~outbox.web.Open`.
    :param read_only: refuse every change, whoever asks.
    :param allowed_hosts: the names under which it answers, without ports; ``None`` leaves that to what is in front of it.
    """
    return Dashboard(Site(outbox, auth, read_only, Throttle()), allowed_hosts)


class Dashboard:
    """The application that :func:`create_app` makes."""

    def __init__(self, site: Site, allowed_hosts: Collection[str] | None) -> None:
        self._site = site
        self._allowed_hosts = allowed_hosts
        self._map = url_map()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        request.max_content_length = LONGEST_BODY
        return guarding.secure(self._respond(request))(environ, start_response)

    def _respond(self, request: Request) -> Response:
        urls = self._map.bind_to_environ(request.environ)
        visit = Visit(self._site, request, urls, Session())
        try:
            guarding.check_host(request, self._site.auth, self._allowed_hosts)
            guarding.check_text(request)
            visit = begin(self._site, request, urls)
            response = self._answer(visit, urls)
        except RequestRedirect as elsewhere:
            return redirect(elsewhere.new_url, 308)
        except Exception as error:
            return self._failed(visit, error)
        return response

    def _answer(self, visit: Visit, urls: MapAdapter) -> Response:
        endpoint, arguments = urls.match()
        route = BY_ENDPOINT[endpoint]
        guarding.check_origin(visit.request)
        if route.needs is not Needs.NOTHING and visit.visitor is None:
            return self._to_login(visit)
        if visit.request.method not in guarding.SAFE_METHODS and not visit.by_password:
            guarding.check_token(visit.request, visit.session, self._site.auth.secret)
        if route.needs is Needs.ACTING:
            visit.acting()
        response = route.view(visit, **arguments)
        if not visit.by_password and endpoint != "static":
            visit.keep_session(response)
        return response

    def _to_login(self, visit: Visit) -> Response:
        auth = self._site.auth
        if visit.request.path.startswith(API_PREFIX):
            challenge = {"WWW-Authenticate": 'Basic realm="outbox", charset="UTF-8"'} if isinstance(auth, Login) else {}
            raise Problem(401, "login-required", "log in, or send name and password with the request", challenge)
        if isinstance(auth, Login):
            again = visit.request.full_path.rstrip("?") if visit.request.method in guarding.SAFE_METHODS else None
            return redirect(visit.url("login", next=again), 303)
        if isinstance(auth, Delegated) and auth.login_url is not None:
            return redirect(auth.login_url, 303)
        raise Problem(403, "not-allowed", "you may not see this dashboard")

    def _failed(self, visit: Visit, error: Exception) -> Response:
        problem = problems.problem_of(error)
        if problem is None:
            reference = uuid.uuid4().hex[:12]
            _log.error("a request failed (reference %s)", reference, exc_info=error)
            problem = Problem(500, "defect", f"something is wrong with the dashboard itself; the log says more at {reference}")
        if visit.request.path.startswith(API_PREFIX):
            return problem.response()
        response = visit.render("problem.html", problem.status, problem=problem)
        response.headers.extend(problem.headers)
        return response
