"""``manage.py outbox …``: the ``outbox`` command, on the outbox of the settings."""

from argparse import REMAINDER
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

from outbox.cli.application import application
from outbox.integrations.django import process


class Command(BaseCommand):
    """``manage.py outbox status``; ``manage.py outbox`` alone tells what there is."""

    help = "Look after the outbox: what waits, what failed and why, and what to do about it."
    requires_system_checks = ()

    def run_from_argv(self, argv: Sequence[str]) -> None:
        """Leave every argument to the ``outbox`` command, its ``--help`` too; Django's own are settled by now."""
        djangos = CommandParser(add_help=False, allow_abbrev=False)
        djangos.add_argument("--settings")
        djangos.add_argument("--pythonpath")
        try:
            _run(djangos.parse_known_args(argv[2:])[1])
        finally:
            connections.close_all()

    def add_arguments(self, parser: Any) -> None:
        """For ``call_command("outbox", "status", "--json")``."""
        parser.add_argument("arguments", nargs=REMAINDER)

    def handle(self, *_args: Any, arguments: Sequence[str], **_options: Any) -> None:
        """Run it. Raises ``SystemExit`` unless it ends well."""
        try:
            _run(arguments)
        except SystemExit as ended:
            if ended.code:
                raise


def _run(arguments: Sequence[str]) -> None:
    own = f"{process.outbox.__module__}:{process.outbox.__name__}"
    application.main(args=["--app", own, *(arguments or ["--help"])], prog_name="manage.py outbox")
