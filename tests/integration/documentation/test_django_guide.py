"""The Django guide's project, put together from its blocks: its test passes, and what it commits is delivered."""

from pathlib import Path

import django
import pytest

from outbox.integrations.django.process import TASKS_BACKEND
from tests.integration.documentation.blocks import code
from tests.integration.documentation.walking import Walk

PAGE = "docs/guides/django.md"
# What `django-admin startproject` and `startapp` leave, as far as it matters here.
SETTINGS = """
SECRET_KEY, ALLOWED_HOSTS, USE_TZ, ROOT_URLCONF = "only for tests", ["*"], True, "shop.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["orders"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.db"}}
CELERY_BROKER_URL = "redis://localhost:6379/0"
"""
FILES = {
    "manage.py": "import os, sys\nfrom django.core.management import execute_from_command_line\n"
    'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\nexecute_from_command_line(sys.argv)\n',
    "shop/__init__.py": "from shop.celery import app\n",
    "shop/urls.py": 'from django.urls import path\nfrom orders import views\nurlpatterns = [path("orders", views.place)]\n',
    "orders/__init__.py": "",
    "orders/migrations/__init__.py": "",
    "orders/models.py": "from django.db import models\n\n\nclass Order(models.Model):\n"
    "    item = models.CharField(max_length=99)\n    packed = models.BooleanField(default=False)\n",
}
ORDERING = """
$ python manage.py check --database default
System check identified no issues (0 silenced).
$ python manage.py test
$ python manage.py shell -c "from django.test import Client; Client().post('/orders', {'item': 'tea'})"
$ python manage.py outbox status
channel    delivered  oldest due
warehouse  1
"""


@pytest.fixture
def project(walk: Walk) -> Path:
    """The project's directory, with everything in it that the guide shows."""
    for name, text in FILES.items():
        walk.write(f"# {name}\n{text}")
    settings, celery, channels, views, sqlite, mail, tasks, tests = code(PAGE, "python")
    for block in (celery, channels, views, tests):
        walk.write(block)
    carried = [settings, sqlite, mail, *([tasks] if django.VERSION >= (6, 0) else [])]
    walk.write("\n".join(["# shop/settings.py", SETTINGS, *carried]))
    assert TASKS_BACKEND in tasks
    return walk.directory


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_project_of_the_guide_delivers_what_it_commits(walk: Walk, project: Path) -> None:
    [starting] = code(PAGE, "console")
    walk.type("$ python manage.py makemigrations orders")
    walk.type(starting)
    walk.type(ORDERING)
