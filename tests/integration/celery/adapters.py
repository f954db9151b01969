"""The scripted channels as a package would bring them: ``kind = "scripted"`` in a ``channels.toml``."""

from pathlib import Path
from typing import Any

from tests.integration.celery import application
from tests.integration.celery.ledger import Ledger

ENTRY_POINTS = f"""[outbox.channels]
scripted = {__name__}:Scripted
scripted-async = {__name__}:ScriptedAsync
"""


class Scripted(application.Scripted):
    def __init__(self, name: str, ledger: str, **policy: Any) -> None:
        super().__init__(name, Ledger(Path(ledger)), **policy)


class ScriptedAsync(application.ScriptedAsync):
    def __init__(self, name: str, ledger: str, **policy: Any) -> None:
        super().__init__(name, Ledger(Path(ledger)), **policy)


def install(directory: Path) -> None:
    """As pip would, into a directory on the path."""
    package = directory / "scripted-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: scripted\nVersion: 1\n")
    (package / "entry_points.txt").write_text(ENTRY_POINTS)
