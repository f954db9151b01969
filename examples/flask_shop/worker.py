"""For ``celery --app examples.flask_shop.worker``, which looks for a Celery application and not for a factory."""

from examples.flask_shop import create_app

app = create_app().extensions["celery"]
