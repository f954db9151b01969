"""What ``celery -A tests.integration.celery.app`` runs."""

from pathlib import Path

from tests.crash.arming import Plans
from tests.integration.celery.application import Settings, become_deaf, create, shorter_clocks

settings = Settings.from_environment()
if settings.deaf:
    become_deaf()
if settings.plans:
    Plans(Path(settings.plans)).obey()
for module, name, value in shorter_clocks(settings):
    setattr(module, name, value)
app = create(settings).app
