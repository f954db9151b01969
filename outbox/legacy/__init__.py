"""Import of a file-based delivery queue: one JSON file for each reply that waits, dead letters in ``failed/``."""

from outbox.legacy.importing import import_directory
from outbox.legacy.run import ImportAborted
from outbox.legacy.summary import Left, Phase, Progress, Summary

__all__ = ["ImportAborted", "Left", "Phase", "Progress", "Summary", "import_directory"]
