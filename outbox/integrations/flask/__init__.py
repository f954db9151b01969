"""celery-outbox as a Flask extension that joins Flask-SQLAlchemy's ``db.session``, and the dashboard as a blueprint."""

from outbox.extras import extra

with extra("flask", "the Flask extension"):
    from outbox.integrations.flask.extension import FlaskOutbox
    from outbox.integrations.flask.mounting import dashboard

__all__ = ["FlaskOutbox", "dashboard"]
