"""``flask outbox`` is the ``outbox`` command, on the outbox of the application."""

import json

from celery import Celery

from outbox.cli.application import application
from outbox.integrations.celery import install
from tests.integration.flask.conftest import MakeApp, Shop, outbox_of


def test_the_verbs_of_the_command_work_on_the_outbox_of_the_application(shop: Shop, make_app: MakeApp) -> None:
    @shop.outbox.channel("broken", max_attempts=1)
    def fail(message: object, attempt: object) -> None:
        raise RuntimeError("no such address")

    app = make_app()
    with app.app_context():
        queued = shop.outbox.enqueue("broken")
        shop.database.session.commit()
    run = app.test_cli_runner().invoke
    assert "1 failed_terminal" in run(args=["outbox", "relay", "--inline", "--once"]).output
    listed = json.loads(run(args=["outbox", "list", "--json"]).output)
    assert [message["id"] for message in listed] == [queued.id]
    assert run(args=["outbox", "retry", queued.id]).exit_code == 0
    assert outbox_of(app).get(queued.id).status == "queued"


def test_its_help_and_its_exit_status_are_the_commands(make_app: MakeApp) -> None:
    run = make_app().test_cli_runner().invoke
    told = run(args=["outbox", "--help"])
    assert all(verb in told.output for verb in application.commands)
    assert run(args=["outbox", "show", "nobody"]).exit_code == 1
    assert run(args=["outbox", "--database", "sqlite://", "status"]).exit_code == 2


def test_the_relay_publishes_through_the_celery_application_that_flask_knows(
    shop: Shop, make_app: MakeApp, redis_url: str
) -> None:
    @shop.outbox.channel("warehouse")
    def pack(message: object, attempt: object) -> None:
        raise AssertionError("nobody works here")

    app = make_app()
    with Celery("shop", broker=redis_url) as celery:
        app.extensions["celery"] = celery
        install(celery, outbox_of(app))
        with app.app_context():
            queued = shop.outbox.enqueue("warehouse", delay=0)
            shop.database.session.commit()
        assert app.test_cli_runner().invoke(args=["outbox", "relay", "--once"]).exit_code == 0
        assert outbox_of(app).get(queued.id).status == "dispatched"
