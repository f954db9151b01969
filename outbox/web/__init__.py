"""The dashboard and its JSON API: one WSGI application, for a server of its own or mounted in the application that owns the
outbox. :func:`create_app` makes it.
"""

from outbox.extras import extra

with extra("web", "the dashboard"):
    from outbox.web.access import Delegated, Login, Open, Role, User, Visitor
    from outbox.web.application import create_app

__all__ = ["Delegated", "Login", "Open", "Role", "User", "Visitor", "create_app"]
