"""What ``celery -A tests.integration.celery.app`` runs."""

from tests.integration.celery.application import Settings, create, shorter_clocks

settings = Settings.from_environment()
for module, name, value in shorter_clocks(settings):
    setattr(module, name, value)
app = create(settings).app
