"""What the README and the documentation say can be done, is there, and works."""

import ast
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from outbox.channels import registry
from tests.servers.supervised import start

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
PATIENCE_S = 100


def blocks(language: str) -> list[str]:
    """The code blocks of the README in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def table(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of the README, without its head."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Path:
    """The README's application in a directory of its own, on a broker of the tests."""
    [code] = blocks("python")
    assert "redis://localhost:6379/0" in code
    (tmp_path / "shop.py").write_text(code.replace("redis://localhost:6379/0", redis_url))
    return tmp_path


@pytest.fixture
def worker(shop: Path) -> Iterator[Path]:
    """What the README types: an order, then the worker, as long as the test runs; the file that it logs to."""
    [code] = re.findall(r'^\$ python -c "(.*)"$', README, re.MULTILINE)
    subprocess.run([sys.executable, "-c", code], cwd=shop, check=True, timeout=PATIENCE_S)
    [command] = re.findall(r"^\$ (celery .*)$", README, re.MULTILINE)
    log = shop / "worker.log"
    with log.open("w") as output:
        process = start([*command.split()], {}, cwd=shop, stdout=output)
    try:
        yield log
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.mark.slow
def test_the_application_of_the_readme_delivers_what_it_commits(worker: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while "please pack order 42 (key " not in worker.read_text():
        assert time.monotonic() < deadline, worker.read_text()
        time.sleep(0.1)


def test_an_application_needs_about_ten_lines_of_the_outbox() -> None:
    [code] = blocks("python")
    names = ("outbox", "install(", "@outbox", "def tell_the_warehouse", "print(", "app = Celery")

    assert len([line for line in code.splitlines() if any(name in line for name in names)]) <= 10


def test_every_command_of_make_that_is_named_is_there() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [name for page in PAGES for name in re.findall(r"(?:`|\$ )make ([a-z-]+)", page.read_text())]

    assert {"run", "test"} <= set(named) <= set(targets)


def test_every_test_that_is_named_as_a_proof_exists() -> None:
    named = {name for page in PAGES for name in re.findall(r"tests/[\w/]+\.py(?:::\w+)+", page.read_text())}
    missing = [name for name in sorted(named) if not _exists(name)]

    assert missing == []


def test_each_guarantee_names_a_test() -> None:
    guarantees = table("What is guaranteed")

    assert len(guarantees) >= 15
    assert [claim for claim, proof in guarantees if not re.search(r"tests/[\w/]+\.py::test_\w+", proof)] == []


def test_the_readme_names_the_channels_that_there_are() -> None:
    [row] = [row for row in table("What there is") if row[0] == "Channels"]

    assert sorted(re.findall(r"`([a-z]+)`", row[1])) == registry.kinds()


def test_every_extra_of_the_readme_can_be_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert {extra.strip("`") for extra, _ in table("Extras")} <= set(project["optional-dependencies"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", text)

    assert [link for link in links if not _resolves(page, unquote(link))] == []


def _exists(name: str) -> bool:
    file, *path = name.split("::")
    if not (ROOT / file).is_file():
        return False
    body = ast.parse((ROOT / file).read_text()).body
    for part in path:
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = next((node for node in body if isinstance(node, kinds) and node.name == part), None)
        if found is None:
            return False
        body = found.body
    return True


def _resolves(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return target.exists() and (not anchor or anchor in _anchors(target))


def _anchors(page: Path) -> set[str]:
    """The names that a page's headings get: lower case, without punctuation, with hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
