"""The invariants that can be read in the source, or in what it hands to the broker."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from outbox.integrations.celery import envelope
from outbox.message import Claim

ROOT = Path(__file__).parents[2]
SOURCES = sorted(file for package in ("outbox", "workers", "config") for file in (ROOT / package).rglob("*.py"))

CELERY_RETRIES = {"autoretry_for", "retry_backoff", "retry_jitter", "countdown", "eta"}
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle"}


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for file in SOURCES:
        yield file.relative_to(ROOT), ast.parse(file.read_text(encoding="utf-8"))


def celery_retries_in(tree: ast.Module) -> list[int]:
    """Lines that would let Celery try again, or keep a message for later."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    by_keyword = [call.lineno for call in calls if any(keyword.arg in CELERY_RETRIES for keyword in call.keywords)]
    by_call = [call.lineno for call in calls if ast.unparse(call.func) in ("self.retry", "task.retry", "current_task.retry")]
    return by_keyword + by_call


def unpicklers_in(tree: ast.Module) -> list[str]:
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    names = [alias.name for node in imports for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [name for name in names if name.split(".")[0] in UNPICKLERS]


def test_invariant_5_the_database_is_the_only_one_that_retries() -> None:
    assert {str(file): lines for file, tree in trees() if (lines := celery_retries_in(tree))} == {}


def test_invariant_14_nothing_is_ever_unpickled() -> None:
    assert {str(file): names for file, tree in trees() if (names := unpicklers_in(tree))} == {}


@pytest.mark.parametrize("source", ["task.apply_async(countdown=5)", "app.task(autoretry_for=(OSError,))", "self.retry()"])
def test_a_retry_by_celery_would_be_seen(source: str) -> None:
    assert celery_retries_in(ast.parse(source)) == [1]


@pytest.mark.parametrize("source", ["import pickle", "from cloudpickle import loads", "import os, shelve"])
def test_a_pickle_would_be_seen(source: str) -> None:
    assert len(unpicklers_in(ast.parse(source))) == 1


def test_invariant_13_the_broker_carries_ids_and_leases_and_no_key_that_may_name_a_person() -> None:
    claims = [Claim("id-1", 3, ordering_key="telegram|+15551234"), Claim("id-2", 0, ordering_key="telegram|+15551234")]

    message = envelope.pack(claims, capped=True, watched=True)

    assert message == {"v": 1, "claims": [["id-1", 3, 1], ["id-2", 0, 1]], "more": True, "watched": True}
    assert "+1555" not in json.dumps(message)
