"""What ``celery -A tests.integration.celery.app`` runs."""

from tests.integration.celery.application import Settings, create

app = create(Settings.from_environment()).app
