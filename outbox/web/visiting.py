"""One request on its way through the dashboard: who asks, in which session, and what their pages need to know."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from werkzeug.routing import MapAdapter
from werkzeug.wrappers import Request, Response

from outbox.outbox import Outbox
from outbox.web import files
from outbox.web.access import Auth, Delegated, Login, Open, Role, Visitor
from outbox.web.problems import Problem
from outbox.web.rendering import environment
from outbox.web.sessions import LONGEST_S, Session, seal, unseal
from outbox.web.throttling import Throttle

SESSION_COOKIE, THEME_COOKIE = "outbox_session", "outbox_theme"
THEMES = ("auto", "light", "dark")


@dataclass(frozen=True)
class Site:
    """What all requests share."""

    outbox: Outbox
    auth: Auth
    read_only: bool
    throttle: Throttle


@dataclass
class Visit:
    """A request, and who made it. ``visitor`` is ``None`` for who has not logged in."""

    site: Site
    request: Request
    urls: MapAdapter
    session: Session
    visitor: Visitor | None = None
    by_password: bool = False
    """Whether the request itself carries name and password, and no cookie that another site could make use of."""

    @property
    def outbox(self) -> Outbox:
        """The outbox that is shown."""
        return self.site.outbox

    @property
    def csrf_token(self) -> str:
        """What the forms of this session carry."""
        return self.session.csrf_token(self.site.auth.secret)

    @property
    def may_act(self) -> bool:
        """Whether the visitor may change anything here."""
        return self.visitor is not None and self.visitor.may_act and not self.site.read_only

    @property
    def may_see_content(self) -> bool:
        """Whether the visitor may see payloads and headers."""
        return self.visitor is not None and self.visitor.may_see_content

    def acting(self) -> Visitor:
        """The visitor, who may act. Raises :class:`~outbox.web.problems.Problem`."""
        if self.visitor is None or not self.may_act:
            reason = "this dashboard is read-only" if self.site.read_only else f"it takes the role {Role.OPERATOR}"
            raise Problem(403, "not-allowed", f"you may not do that: {reason}")
        return self.visitor

    def url(self, endpoint: str, **values: Any) -> str:
        """The address of a page, below where the dashboard is mounted."""
        return self.urls.build(endpoint, {name: value for name, value in values.items() if value not in (None, "")})

    def render(self, template: str, status: int = 200, **facts: Any) -> Response:
        """A page."""
        page = (
            environment()
            .get_template(template)
            .render(visit=self, url=self.url, theme=self.theme, version=files.version, **facts)
        )
        return Response(page, status, content_type="text/html; charset=utf-8")

    @property
    def theme(self) -> str:
        """How the person likes it: as the system has it, light or dark."""
        chosen = self.request.cookies.get(THEME_COOKIE, "")
        return chosen if chosen in THEMES else THEMES[0]

    def remember(self, response: Response, name: str, value: str, max_age_s: int = LONGEST_S) -> None:
        """Set a cookie that no script can read and no other site's form sends along."""
        response.set_cookie(
            name, value, max_age=max_age_s, path=self.request.root_path + "/", secure=self.request.is_secure,
            httponly=True, samesite="Lax",
        )  # fmt: skip

    def keep_session(self, response: Response) -> None:
        """Set the session's cookie where the browser has another or none."""
        cookie = self.request.cookies.get(SESSION_COOKIE)
        if unseal(cookie, self.site.auth.secret) != self.session:
            self.remember(response, SESSION_COOKIE, seal(self.session, self.site.auth.secret))


def begin(site: Site, request: Request, urls: MapAdapter) -> Visit:
    """Find out who asks. Raises :class:`~outbox.web.problems.Problem` for a wrong password in the request itself."""
    session = unseal(request.cookies.get(SESSION_COOKIE), site.auth.secret) or Session()
    visit = Visit(site, request, urls, session)
    match site.auth:
        case Open(name, role):
            visit.visitor = Visitor(name, role)
        case Delegated(identify):
            visit.visitor = identify(request.environ)
        case Login(users) as login:
            user = users.get(session.user or "")
            if request.authorization is not None and request.authorization.type == "basic":
                visit.visitor = _with_password(site, login, request, request.authorization.parameters)
                visit.by_password = True
            elif user is not None and user.fingerprint == session.fingerprint:
                visit.visitor = user.visitor
    return visit


def log_in(site: Site, login: Login, request: Request, name: str, password: str) -> Session:
    """A session of that user. Raises :class:`~outbox.web.problems.Problem` for a wrong password or too many of them."""
    keys = (f"address {request.remote_addr}", f"name {name[:100]}")
    wait_s = site.throttle.wait_s(keys)
    if wait_s:
        raise Problem(429, "too-many-attempts", "too many attempts: wait a little", {"Retry-After": str(int(wait_s) + 1)})
    user = login.verify(name, password)
    if user is None:
        site.throttle.failed(keys)
        raise Problem(401, "wrong-credentials", "there is no user with that name and password")
    site.throttle.succeeded(keys)
    return Session(user=user.name, fingerprint=user.fingerprint)


def _with_password(site: Site, login: Login, request: Request, given: Mapping[str, str | None]) -> Visitor:
    session = log_in(site, login, request, given.get("username") or "", given.get("password") or "")
    return login.users[session.user or ""].visitor
