"""docs/reference/cli.md against the command itself."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from docs import command_line
from outbox.cli.application import application

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs/reference/cli.md").read_text()


def leaves(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, member in command.commands.items():
            yield from leaves(member, f"{path} {name}".strip())
    else:
        yield path, command


COMMANDS = dict(leaves(application, ""))


def options(command: click.Command) -> Iterator[click.Option]:
    return (parameter for parameter in command.params if isinstance(parameter, click.Option))


def test_the_page_is_what_the_command_says_of_itself() -> None:
    assert command_line.page() == PAGE, "run `python -m docs.command_line`"


def test_a_default_is_told_in_words_that_people_know() -> None:
    assert "Sentinel" not in PAGE
    told = {told for command in COMMANDS.values() for one in options(command) if isinstance(told := one.show_default, str)}
    assert told
    assert [words for words in told if f"Default: {words}." not in PAGE] == []


def test_a_command_without_a_place_in_the_template_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(application.commands, "frobnicate", click.Command("frobnicate"))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="frobnicate"):
        command_line.page()


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_every_option_says_what_it_does(path: str) -> None:
    assert COMMANDS[path].help
    assert [option.name for option in options(COMMANDS[path]) if not option.help] == []


def test_no_option_is_told_of_that_no_command_has() -> None:
    known = {name for command in (*COMMANDS.values(), application) for option in options(command) for name in option.opts}
    known |= {name for command in COMMANDS.values() for option in options(command) for name in option.secondary_opts}

    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) - known == set()


def test_every_check_of_doctor_is_told_of() -> None:
    table = PAGE.split("\n### `outbox doctor`\n")[1].split("\n### ")[0]
    source = "".join(path.read_text() for path in (PROJECT / "outbox/cli/doctor").glob("*.py"))
    checks = set(re.findall(r'Check\("([^"]+)"', source))
    assert len(checks) > 10
    assert set(re.findall(r"^\| ([a-z' ]+) \|", table, re.MULTILINE)) - {"check", "option"} == checks
