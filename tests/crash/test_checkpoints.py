"""Every moment at which a process can die is in the matrix, and nothing happens there unless somebody listens."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from outbox import Outbox, checkpoints
from outbox.store import migrating
from outbox.store.sqlstore import SQLStore
from tests.crash.arming import Act, Plans
from tests.crash.matrix import BOTH, CELLS, SHORT

ROOT = Path(__file__).parents[2]
ELSEWHERE = {
    "archive.move", "archive.moved", "import_entries.before_commit", "import_entries.committed",
    "upgrade.revision", "upgrade.before_commit", "upgrade.committed",
}  # fmt: skip
"""Where no fleet is needed: `tests/integration/legacy/test_import_crashes.py` and `test_upgrade.py`."""


def named() -> Iterator[str]:
    """The checkpoints in the library's code: those it names, and two for each verb that writes."""
    for file in (ROOT / "outbox").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "checkpoints.reach":
                step, moment = node.args
                if isinstance(step, ast.Constant) and isinstance(moment, ast.Constant):
                    yield f"{step.value}.{moment.value}"
    for name, method in inspect.getmembers(SQLStore, inspect.isfunction):
        if not name.startswith("_") and "self._write(" in inspect.getsource(method):
            yield from (f"{name}.{side}" for side in BOTH)


def test_every_checkpoint_is_in_the_matrix() -> None:
    """Whoever adds one adds its cell: where the process dies, and what has to become of the messages."""
    covered = {cell.checkpoint.partition("@")[0] for cell in CELLS} | ELSEWHERE
    assert set(named()) - covered == set()


def test_the_short_matrix_is_part_of_the_long_one() -> None:
    assert {name for names in SHORT.values() for name in names} <= {cell.name for cell in CELLS}
    assert len({cell.name for cell in CELLS}) == len(CELLS)


def test_a_verb_that_writes_comes_to_both_sides_of_its_commit_and_one_that_reads_to_none(sqlite_url: str) -> None:
    met: list[str] = []
    outbox = Outbox(sqlite_url)
    checkpoints.listen(met.append)
    try:
        outbox.upgrade_schema()
        outbox.pause("webhook")
        outbox.stats()
    finally:
        checkpoints.listen(None)
        outbox.close()
    revisions = ["upgrade.revision"] * len(migrating.REVISIONS)
    assert met == [*revisions, "upgrade.before_commit", "upgrade.committed", "close.before_commit", "close.committed"]


def test_before_the_commit_nothing_stands_and_after_it_everything(database_url: str) -> None:
    outbox = Outbox(database_url)
    outbox.upgrade_schema()
    seen: dict[str, int] = {}

    def look(name: str) -> None:
        checkpoints.listen(None)
        seen[name] = len(outbox.store.gates())
        checkpoints.listen(look)

    checkpoints.listen(look)
    try:
        outbox.pause("webhook")
    finally:
        checkpoints.listen(None)
        outbox.close()
    assert seen == {"close.before_commit": 0, "close.committed": 1}


def test_a_plan_is_carried_out_once_whoever_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Act] = []
    monkeypatch.setattr("tests.crash.arming._ACTS", {act: lambda act=act: done.append(act) for act in Act})
    one, another = Plans(tmp_path), Plans(tmp_path, role="relay")
    one.lay("claim.committed", {2: Act.KILL})
    one.lay("claim.committed@relay", {1: Act.NODE})
    try:
        one.obey()
        checkpoints.reach("claim", "committed")
        another.obey()
        checkpoints.reach("claim", "committed")
        one.obey()
        checkpoints.reach("claim", "committed")
    finally:
        checkpoints.listen(None)
    assert done == [Act.KILL, Act.NODE]
    assert [(deed.checkpoint, deed.hit) for deed in one.deeds()] == [("claim.committed", 2), ("claim.committed", 1)]
