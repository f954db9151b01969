"""``python -m outbox.cli``: the ``outbox`` command of this very interpreter."""

from outbox.cli import main

main()
