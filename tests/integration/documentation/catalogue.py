"""What becomes of every code block: which test runs it, or why none does and what is done instead."""

HERE = "tests/integration/documentation"

_CHANNELS = ("apprise", "discord", "email", "matrix", "slack", "telegram", "webhook")
_CHAT = "tests/unit/channels/test_chat_configuration.py"

RUN: dict[tuple[str, str], str] = {
    **{(f"docs/channels/{kind}.md", "python"): f"{HERE}/test_snippets.py" for kind in _CHANNELS},
    **{(f"docs/channels/{kind}.md", "toml"): _CHAT for kind in ("discord", "slack", "telegram")},
    ("docs/channels/apprise.md", "toml"): "tests/unit/channels/test_apprise_configuration.py",
    ("docs/channels/email.md", "toml"): "tests/unit/channels/test_email_configuration.py",
    ("docs/channels/matrix.md", "toml"): f"{HERE}/test_snippets.py",
    ("docs/channels/webhook.md", "toml"): "tests/unit/test_webhook_configuration.py",
    ("docs/channels/webhook.md", "console"): f"{HERE}/test_commands.py",
    ("docs/guides/conversations.md", "python"): f"{HERE}/test_snippets.py",
    ("docs/guides/dashboard.md", "console"): f"{HERE}/test_commands.py",
    ("docs/guides/dashboard.md", "python"): f"{HERE}/test_snippets.py",
    ("docs/guides/django.md", "console"): f"{HERE}/test_django_guide.py",
    ("docs/guides/django.md", "python"): f"{HERE}/test_django_guide.py",
    ("docs/guides/durable-tasks.md", "python"): f"{HERE}/test_snippets.py",
    ("docs/guides/durable-tasks.md", "toml"): f"{HERE}/test_snippets.py",
    ("docs/guides/fastapi.md", "console"): f"{HERE}/test_shops.py",
    ("docs/guides/fastapi.md", "python"): "tests/integration/fastapi/test_guide.py",
    ("docs/guides/flask.md", "console"): f"{HERE}/test_shops.py",
    ("docs/guides/flask.md", "python"): "tests/integration/flask/test_guide.py",
    ("docs/guides/from-delay-on-commit.md", "python"): f"{HERE}/test_snippets.py",
    ("docs/guides/import-legacy.md", "console"): f"{HERE}/test_commands.py",
    ("docs/guides/import-legacy.md", "python"): f"{HERE}/test_snippets.py",
    ("docs/guides/monitoring.md", "json"): f"{HERE}/test_snippets.py",
    ("docs/guides/monitoring.md", "python"): f"{HERE}/test_snippets.py",
    ("docs/guides/monitoring.md", "yaml"): f"{HERE}/test_snippets.py",
    ("docs/guides/plain-connections.md", "python"): f"{HERE}/test_snippets.py",
    ("docs/guides/policies.md", "python"): f"{HERE}/test_snippets.py",
    ("docs/guides/production.md", "console"): f"{HERE}/test_commands.py",
    ("docs/guides/production.md", "python"): f"{HERE}/test_snippets.py",
    ("docs/guides/production.md", "sql"): "tests/integration/test_production_guide.py",
    ("docs/guides/testing.md", "python"): "tests/integration/test_pytest_plugin.py",
    ("docs/guides/write-a-channel.md", "python"): f"{HERE}/test_snippets.py",
    ("docs/guides/write-a-channel.md", "toml"): f"{HERE}/test_snippets.py",
    ("docs/reference/cli.md", "console"): f"{HERE}/test_commands.py",
    ("docs/reference/cli.md", "python"): f"{HERE}/test_snippets.py",
    ("docs/tutorial.md", "console"): f"{HERE}/test_tutorial.py",
    ("docs/tutorial.md", "python"): f"{HERE}/test_tutorial.py",
    ("README.md", "console"): "tests/e2e/test_example_readme.py",
    ("README.md", "python"): "tests/e2e/test_example_readme.py",
    ("examples/django_shop/README.md", "console"): "tests/integration/django/test_example.py",
    ("examples/fastapi_shop/README.md", "console"): "tests/integration/test_example_shops.py",
    ("examples/flask_shop/README.md", "console"): "tests/integration/test_example_shops.py",
    ("examples/plain_shop/README.md", "console"): "tests/integration/test_example_shops.py",
}
"""Page and language of blocks, and the test that runs or reads all of them."""

_EXTRAS = "tests/integration/test_extras.py installs every extra of a wheel"
_DRAWING = "a drawing, made by the reader's browser"

NOT_RUN: dict[tuple[str, str], str] = {
    ("README.md", "$ make run"): "it is what tests/e2e/test_example.py does, and the suite itself; the targets are looked up",
    ("README.md", "$ pip install"): _EXTRAS,
    ("docs/tutorial.md", "$ python -m venv"): _EXTRAS,
    ("docs/benchmarks.md", "make bench"): "it takes half an hour and a quiet machine; the targets and variables are looked up",
    ("docs/reliability.md", "make test-crash"): "they take from ten minutes to hours; the targets and variables are looked up",
    ("docs/guides/production.md", "$ docker compose"): (
        "no container engine: tests/unit/test_deployment.py has the file validated, and"
        " tests/integration/test_compose_services.py runs its commands"
    ),
    ("docs/guides/production.md", "$ systemctl"): "no systemd: tests/unit/test_deployment.py reads the units",
    ("README.md", "flowchart"): _DRAWING,
    ("docs/how-it-works.md", "sequenceDiagram"): _DRAWING,
    ("docs/explanation/state-machine.md", "stateDiagram-v2"): "a drawing; docs/state_machine.py writes it from the code",
}
"""Page and first words of a block, or of a command in it, that cannot be run, and what is done instead."""
