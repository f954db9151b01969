"""The Django project under test. Its database is the one that the environment names."""

import json
import os

from sqlalchemy import make_url

_URL = make_url(os.environ["DJANGO_TEST_DATABASE_URL"])

SECRET_KEY = "only for tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "Asia/Kolkata"  # whoever forgets a time zone shall notice
ROOT_URLCONF = "tests.integration.django.urls"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "outbox.integrations.django",
    "tests.integration.django.shop",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

if _URL.get_backend_name() == "sqlite":
    _DEFAULT: dict[str, object] = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _URL.database,
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
        "TEST": {"NAME": f"{_URL.database}.test"},
    }
else:
    _DEFAULT = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _URL.database,
        "USER": _URL.username,
        "PASSWORD": _URL.password or "",
        "HOST": _URL.host,
        "PORT": str(_URL.port),
    }

DATABASES = {
    "default": _DEFAULT,
    "same": {**_DEFAULT, "TEST": {"MIRROR": "default"}},
    "elsewhere": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
DATABASE_ROUTERS: list[str] = []
OUTBOX: dict[str, object] = {}

# What a scenario sets differently; its databases stand beside the default one.
_different = json.loads(os.environ.get("DJANGO_TEST_SETTINGS", "{}"))
DATABASES |= _different.pop("DATABASES", {})
globals().update(_different)
