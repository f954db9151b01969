"""The audit of the dependencies: what was found, what was not, and what could not be asked are three things."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("audit", ROOT / "deploy" / "audit.py")
assert _spec is not None
assert _spec.loader is not None
audit = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(audit)

CLEAN = {"name": "celery", "version": "5.6.0", "vulns": []}
HOLED = {"name": "jinja2", "version": "2.0", "vulns": [{"id": "CVE-2026-1", "fix_versions": ["2.1"]}]}
SKIPPED = {"name": "kombu", "skip_reason": "the service does not know it"}


def tool(tmp_path: Path, status: int, answer: Any) -> list[str]:
    """A program in the auditor's place, which writes that answer, if any, and ends with that status."""
    script = tmp_path / "tool.py"
    script.write_text(
        "import sys\n"
        f"answer = {json.dumps(answer) if answer is not None else None!r}\n"
        "if answer is not None:\n"
        "    open(sys.argv[sys.argv.index('--output') + 1], 'w').write(answer)\n"
        "print('ERROR: connection refused', file=sys.stderr)\n"
        f"sys.exit({status})\n"
    )
    return [sys.executable, str(script)]


@pytest.mark.parametrize(
    ("status", "answer", "verdict", "told"),
    [
        (0, {"dependencies": [CLEAN]}, "CLEAN", "1 versions"),
        (1, {"dependencies": [CLEAN, HOLED, SKIPPED]}, "FOUND", "jinja2 2.0: CVE-2026-1"),
        (1, None, "NOT_ASKED", "connection refused"),
        (0, None, "NOT_ASKED", "connection refused"),
        (0, {}, "NOT_ASKED", "connection refused"),
        (0, {"dependencies": [CLEAN, SKIPPED]}, "NOT_ASKED", "looked up 1 of 2"),
        (0, {"dependencies": []}, "NOT_ASKED", "looked up 0 of 0"),
    ],
)
def test_only_an_answer_about_every_version_is_one(tmp_path: Path, status: int, answer: Any, verdict: str, told: str) -> None:
    found, said = audit.audit(ROOT / "requirements.lock", "pypi", tool(tmp_path, status, answer))

    assert (found.name, told in said) == (verdict, True)


def test_a_tool_that_cannot_be_run_was_not_asked(tmp_path: Path) -> None:
    assert audit.audit(ROOT / "requirements.lock", "pypi", [str(tmp_path / "nowhere")])[0].name == "NOT_ASKED"


def test_everything_in_the_lock_has_one_version_and_its_hashes() -> None:
    entries = re.split(r"^(?=[a-zA-Z0-9])", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)[1:]

    assert len(entries) > 100
    assert [entry.splitlines()[0] for entry in entries if not re.match(r"[\w.-]+(\[[\w,-]+\])?==[\w.!+]+[ \\;]", entry)] == []
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
