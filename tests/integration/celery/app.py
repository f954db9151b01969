"""What ``celery -A tests.integration.celery.app`` runs."""

from tests.integration.celery.application import Settings, become_deaf, create, shorter_clocks

settings = Settings.from_environment()
if settings.deaf:
    become_deaf()
for module, name, value in shorter_clocks(settings):
    setattr(module, name, value)
app = create(settings).app
