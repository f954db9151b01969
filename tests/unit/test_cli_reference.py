"""docs/reference/cli.md against the command itself."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from sqlalchemy import Engine

from outbox.cli.application import application
from outbox.store.examining import Begin, begin_of

PAGE = (Path(__file__).parents[2] / "docs/reference/cli.md").read_text()


def leaves(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, member in command.commands.items():
            yield from leaves(member, f"{path} {name}".strip())
    else:
        yield path, command


COMMANDS = dict(leaves(application, ""))


def options(command: click.Command) -> set[str]:
    return {
        name
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("--")
    }


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_is_on_the_page_with_all_its_options(path: str) -> None:
    assert re.search(rf"`(outbox )?{path}\b", PAGE)
    assert options(COMMANDS[path]) - set(re.findall(r"--[a-z][a-z-]+", PAGE)) == set()


def test_no_option_is_on_the_page_that_no_command_has() -> None:
    known = {option for command in (*COMMANDS.values(), application) for option in options(command)} | {"--help"}

    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) - known == set()


def test_the_engine_on_the_page_begins_immediate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Engine] = {}

    exec(example, names)

    try:
        assert begin_of(names["engine"]) is Begin.IMMEDIATE
    finally:
        names["engine"].dispose()
