"""A project's own app: models, channels and tasks for the tests."""
