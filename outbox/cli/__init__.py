"""The ``outbox`` command."""

import sys

_EXTRA = frozenset({"click", "dotenv", "humanize", "rich"})


def main() -> None:
    """The entry point of the ``outbox`` command: runs it and ends the process with its exit status."""
    try:
        from outbox.cli.application import application
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        print(f"outbox: the command line needs {missing}: pip install 'celery-outbox[cli]'", file=sys.stderr)
        sys.exit(2)
    application()
