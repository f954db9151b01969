"""A Django shop whose orders, packing slips and confirmation mails are committed together.

As in every Django project with Celery, the application is imported here, so that ``celery -A`` and the web processes share it.
"""

from examples.django_shop.celery import app

__all__ = ["app"]
