"""The code in the documentation: all of it is Python, and that of the guides without servers is run as it stands."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
RUN = ["guides/conversations.md", "guides/policies.md"]


def code_of(page: Path) -> list[str]:
    """The Python blocks of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_the_code_of_a_page_is_python(page: Path) -> None:
    for block in code_of(page):
        ast.parse(block)


@pytest.mark.parametrize("name", RUN)
def test_the_code_of_a_guide_does_what_the_guide_says(name: str, tmp_path: Path) -> None:
    blocks = code_of(DOCS / name)
    assert blocks
    script = tmp_path / "guide.py"
    script.write_text("\n\n".join(blocks))
    ran = subprocess.run([sys.executable, "-W", "error", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
