"""The documentation's site: it builds without a warning, and every page is in it."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import outbox
from tests.integration.documentation.blocks import blocks_of, pages

PROJECT = Path(__file__).parents[2]


def test_the_site_builds_without_a_warning_and_has_every_page(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=PROJECT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {path.relative_to(PROJECT / "docs").with_suffix("") for path in (PROJECT / "docs").rglob("*.md")}
    missing = [page for page in pages if page.name != "index" and not (tmp_path / page / "index.html").exists()]
    assert missing == []
    python = (tmp_path / "reference" / "python" / "index.html").read_text()
    assert "Write a message in the caller's open transaction" in python.replace("&#39;", "'")
    assert [name for name in outbox.__all__ if f'id="{_place_of(name)}"' not in python] == []


def test_the_reference_has_what_each_integration_offers() -> None:
    page = (PROJECT / "docs/reference/python.md").read_text()
    for module in ("outbox.integrations.django", "outbox.integrations.flask", "outbox.testing", "outbox.web"):
        offered = set(import_module(module).__all__) - {"Recording"}  # what a block gives, and nobody makes
        assert {name for name in offered if f"::: {module}.{name}\n" not in page} == set()


def test_the_reference_has_whatever_a_page_imports() -> None:
    page = (PROJECT / "docs/reference/python.md").read_text()
    snippets = [block.code for path in pages() for block in blocks_of(path) if block.language == "python"]
    imported = {name for snippet in snippets for name in _imports(snippet)}
    assert len(imported) > 20
    assert sorted(name for name in imported if f"::: {name}\n" not in page) == []


def test_pages_say_how_to_install_a_clone_as_long_as_nothing_is_released() -> None:
    released = "## 0.1.0, not released yet" not in (PROJECT / "CHANGELOG.md").read_text()
    for page in ("index.md", "tutorial.md"):
        assert ("not on the package index yet" in (PROJECT / "docs" / page).read_text()) is not released, page


def _imports(snippet: str) -> Iterator[str]:
    """Where the reference has what a snippet imports from the package."""
    for statement in ast.walk(ast.parse(snippet)):
        if isinstance(statement, ast.ImportFrom) and str(statement.module).partition(".")[0] == "outbox":
            for alias in statement.names:
                yield _place_of(alias.name) if statement.module == "outbox" else f"{statement.module}.{alias.name}"


def _place_of(name: str) -> str:
    public = getattr(outbox, name)
    return f"{public.__module__}.{public.__qualname__}"
