"""Stacks of real processes, as the tests of the Celery integration build them."""

from tests.integration.celery.conftest import make_stack, nursery  # noqa: F401
