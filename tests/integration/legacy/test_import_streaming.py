"""A queue of any length takes no more memory: files are found, read and imported as they come."""

import json
import tracemalloc
import uuid
from pathlib import Path

import pytest

from outbox import Outbox
from outbox.legacy import Phase, Progress, import_directory
from tests.integration.legacy.queues import LegacyQueue, an_entry


def test_ten_times_the_files_take_no_more_memory(tmp_path: Path, sqlite_outbox: Outbox):
    warm_up(tmp_path, sqlite_outbox)
    few = peak_memory(sqlite_outbox, filled(LegacyQueue(tmp_path / "few"), 400))
    many = peak_memory(sqlite_outbox, filled(LegacyQueue(tmp_path / "many"), 4_000))
    assert many < few * 1.25


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.timeout(900)
def test_a_hundred_thousand_files_take_no_more_memory(tmp_path: Path, sqlite_outbox: Outbox):
    warm_up(tmp_path, sqlite_outbox)
    few = peak_memory(sqlite_outbox, filled(LegacyQueue(tmp_path / "few"), 600))
    many = peak_memory(sqlite_outbox, filled(LegacyQueue(tmp_path / "many"), 100_000))
    assert many < few * 1.25


def test_progress_is_told_file_by_file_and_then_batch_by_batch(tmp_path: Path, sqlite_outbox: Outbox):
    told: list[Progress] = []
    import_directory(sqlite_outbox, filled(LegacyQueue(tmp_path / "queue"), 450).path, on_progress=told.append)
    assert told == [
        *(Progress(Phase.READING, done, None) for done in range(1, 451)),
        *(Progress(Phase.IMPORTING, done, 450) for done in (200, 400, 450)),
    ]


def filled(queue: LegacyQueue, files: int) -> LegacyQueue:
    """A queue of that many pending entries, whose names and contents nobody remembers."""
    text = json.dumps(an_entry(id="", payloads=[{"text": "x" * 500}]))
    for _ in range(files):
        entry_id = str(uuid.uuid4())
        (queue.path / f"{entry_id}.json").write_text(text.replace('"id": ""', f'"id": "{entry_id}"'))
    return queue


def warm_up(tmp_path: Path, outbox: Outbox) -> None:
    """What is built once and kept, statements and the like, belongs to nobody's peak."""
    import_directory(outbox, filled(LegacyQueue(tmp_path / "first"), 250).path)


def peak_memory(outbox: Outbox, queue: LegacyQueue) -> int:
    """Bytes that an import took at the most."""
    tracemalloc.start()
    try:
        summary = import_directory(outbox, queue.path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        assert summary.is_clean
        assert queue.left() == set()
