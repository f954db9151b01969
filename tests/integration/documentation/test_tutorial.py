"""The tutorial, from its first block to its last, as a reader follows it."""

import re

import pytest

from tests.integration.documentation.blocks import blocks_of
from tests.integration.documentation.walking import Walk
from tests.servers.kept import free_port

PAGE = "docs/tutorial.md"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_tutorial_does_what_it_says(walk: Walk) -> None:
    warehouse = str(free_port())
    walk.replaced |= {"127.0.0.1:8900": f"127.0.0.1:{warehouse}", '"127.0.0.1", 8900': f'"127.0.0.1", {warehouse}'}
    installing, *blocks = blocks_of(PAGE)
    assert re.findall(r"celery-outbox\[([a-z,]+)\]", installing.code) == ["celery,cli,redis"]
    for block in blocks:
        if block.language == "python":
            walk.write(block.code)
        else:
            walk.type(block.code)
    assert walk.logs().count('" 204 -') == 3, walk.logs()
