"""The settings of the shop. What is not about the outbox is as small as Django lets it be."""

import os

DEBUG = True
SECRET_KEY = "not a secret: an example"  # noqa: S105
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "examples.django_shop.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "outbox.integrations.django",
    "examples.django_shop.orders",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
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

# SQLite must take its write lock when a transaction begins: see the guide, and what `manage.py check` says without it.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", "shop.db"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 30, "init_command": "PRAGMA journal_mode=WAL"},
    }
}

# Mail becomes a message of the outbox; the worker sends it through the backend below, which without a server only prints it.
EMAIL_BACKEND = "outbox.integrations.django.mail.EmailBackend"
EMAIL_HOST, EMAIL_PORT = os.environ.get("SHOP_MAIL_HOST", ""), int(os.environ.get("SHOP_MAIL_PORT", "25"))
OUTBOX = {"EMAIL_BACKEND": f"django.core.mail.backends.{'smtp' if EMAIL_HOST else 'console'}.EmailBackend"}

CELERY_BROKER_URL = os.environ.get("SHOP_BROKER_URL", "redis://localhost:6379/0")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
