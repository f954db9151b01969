"""The threat model's page: what it calls mitigated has a test, and what it does not is told."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "threat-model.md").read_text(encoding="utf-8")
LINES = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| threat |")]
SURFACES = (
    "Who can write the table", "Who can write the broker", "Who answers: receivers and services",
    "Whoever names a target: requests from within (SSRF)", "Whoever listens between worker and receiver, and replays",
    "Who reaches the dashboard, the API, Flower or the metrics", "Secrets, at rest and in logs",
    "Using it up: resource exhaustion", "What is not mitigated",
)  # fmt: skip


def test_every_threat_that_is_stopped_names_a_test() -> None:
    assert len(LINES) > 40
    named = r"\|[^|]+\|[^|]+\|( `tests/[\w/]+\.py::(Test\w+::)?test_\w+`,?)+ \|"
    assert [line for line in LINES if not re.fullmatch(named, line)] == []


def test_every_test_that_it_names_exists() -> None:
    named = {name for line in LINES for name in re.findall(r"(tests/[\w/]+\.py)::(?:Test\w+::)?(test_\w+)", line)}

    assert sorted(f"{file}::{test}" for file, test in named if f"{file}::{test}" not in _tests(ROOT / file)) == []


def test_every_surface_has_its_part() -> None:
    assert tuple(re.findall(r"^## (.*)$", PAGE, re.MULTILINE)) == SURFACES


def test_nothing_writes_files_for_spreadsheets() -> None:
    """Whoever adds an export adds the line of the page, and what keeps cells from being run."""
    sources = [*(ROOT / "outbox").rglob("*.py"), *(ROOT / "workers").rglob("*.py"), *(ROOT / "config").rglob("*.py")]
    imported = {name for source in sources for name in _imports(source)}

    assert imported & {"csv", "openpyxl", "pandas", "xlsxwriter"} == set()
    assert "json" in imported


def _tests(file: Path) -> set[str]:
    """Its tests, those in classes too."""
    if not file.is_file():
        return set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {f"{file.relative_to(ROOT)}::{node.name}" for node in functions}


def _imports(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return plain | {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
