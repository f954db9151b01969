"""The project's tasks, from Django 6 on."""

from django.tasks import task

from tests.integration.django.shop.models import Order


@task
def write_down(number: int) -> dict[str, int]:
    Order.objects.create(number=number)
    return {"written": number}


@task(priority=5, takes_context=True)
def count_attempts(context: object) -> int:
    return context.attempt  # type: ignore[attr-defined]


@task
async def later(number: int) -> int:
    return number + 1


@task
def fail() -> None:
    raise LookupError("nothing there")


@task
def unkept() -> object:
    return object()
