"""No code block of any page goes unnoticed."""

import re

from tests.integration.documentation.blocks import PROJECT, Block, blocks_of, pages
from tests.integration.documentation.catalogue import NOT_RUN, RUN

BLOCKS = [block for page in pages() for block in blocks_of(page)]


def is_told_not_to_run(block: Block) -> bool:
    return any(block.page == page and block.code.startswith(begin) for page, begin in NOT_RUN)


def test_every_block_is_run_or_has_a_reason() -> None:
    forgotten = [block for block in BLOCKS if (block.page, block.language) not in RUN and not is_told_not_to_run(block)]
    assert [(block.page, block.line, block.language) for block in forgotten] == []


def test_every_fence_is_a_block_with_a_language() -> None:
    for page in pages():
        fences = re.findall(r"^ *```", (PROJECT / page).read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(list(blocks_of(page))), page
    assert [(block.page, block.line) for block in BLOCKS if not block.language] == []


def test_no_entry_has_outlived_its_blocks() -> None:
    assert set(RUN) - {(block.page, block.language) for block in BLOCKS} == set()
    gone = [(page, begin) for page, begin in NOT_RUN if not any(begin in block.code for block in BLOCKS if block.page == page)]
    assert gone == []


def test_every_test_of_the_catalogue_reads_its_page() -> None:
    for (page, language), test in RUN.items():
        source = (PROJECT / test).read_text(encoding="utf-8")
        name = page.rpartition("/")[2]
        assert name in source or f"{name.removesuffix('.md')}" in source or '"README.md"' in source, (page, language, test)


def test_every_file_of_a_reason_is_there() -> None:
    for reason in NOT_RUN.values():
        for path in re.findall(r"\b(?:tests|docs)/[\w/]+\.py", reason):
            assert (PROJECT / path).is_file(), path


def test_what_make_is_told_to_do_in_a_block_is_a_target_with_those_variables() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    commands = [line for block in BLOCKS for line in re.findall(r"^(?:\$ )?make (.*?)(?:\s+#.*)?$", block.code, re.MULTILINE)]
    assert len(commands) >= 5
    for command in commands:
        target, *variables = re.findall(r'(?:[A-Z]+="[^"]*"|\S+)', command)
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), command
        assert all(f"$({variable.partition('=')[0]})" in makefile for variable in variables), command
