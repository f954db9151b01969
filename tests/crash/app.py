"""What ``celery -A tests.crash.app`` runs."""

from tests.crash.application import create_under_fire

app = create_under_fire()
