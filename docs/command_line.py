"""Writes `reference/cli.md` from the command itself and `command_line.md.in`: run it after a change of either.

The template holds what no command can say of itself. Each command stands where it has `<!-- outbox NAME -->`, with its usage,
its text, its options and its examples as `--help` tells them.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from outbox.cli.application import application

TEMPLATE = Path(__file__).parent / "command_line.md.in"
PAGE = Path(__file__).parent / "reference" / "cli.md"

_PLACE = re.compile(r"^<!-- (outbox(?: [a-z-]+)*) -->$", re.MULTILINE)


def page() -> str:
    """The whole page. Raises ``ValueError`` unless every command has one place in the template."""
    template, told = TEMPLATE.read_text(encoding="utf-8"), dict(_commands(application, "outbox"))
    places = _PLACE.findall(template)
    if sorted(places) != sorted(told):
        raise ValueError(f"in {TEMPLATE.name} or among the commands, but not once in each: {sorted(set(places) ^ set(told))}")
    return _PLACE.sub(lambda place: told[place[1]], template)


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    """Every command that does something, and the group of all for its options."""
    context = click.Context(command, info_name=path)
    if isinstance(command, click.Group):
        if command is application:
            yield path, _options(context)
        for name, member in command.commands.items():
            yield from _commands(member, f"{path} {name}")
    else:
        yield (
            path,
            "\n\n".join(part for part in (_usage(context), _text(context), _options(context), _examples(context)) if part),
        )


def _usage(context: click.Context) -> str:
    return f"`{context.command_path} {' '.join(context.command.collect_usage_pieces(context))}`"


def _text(context: click.Context) -> str:
    return _linked(inspect.cleandoc(context.command.help or ""))


def _options(context: click.Context) -> str:
    options = [one for one in context.command.params if isinstance(one, click.Option)]
    rows = [f"| {_names(one, context)} | {_meaning(one, context)} |" for one in options]
    return "\n".join(["| option | meaning |", "|---|---|", *rows]) if rows else ""


def _names(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.is_flag or isinstance(option.type, click.Choice):
        return names
    counted = option.metavar is None and isinstance(option.type, click.types.IntParamType)
    return f"{names[:-1]} {'N' if counted else option.make_metavar(context)}`"


def _meaning(option: click.Option, context: click.Context) -> str:
    told = [_linked(option.help)] if option.help else []
    if isinstance(option.type, click.Choice):
        told.append(f"One of {', '.join(f'`{choice}`' for choice in option.type.choices)}.")
    if default := _default(option, context):
        told.append(f"Default: {default}.")
    return " ".join(told).replace("|", "\\|")


def _default(option: click.Option, context: click.Context) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    default = option.get_default(context, call=False) if option.show_default and not option.is_flag else None
    return f"`{default}`" if isinstance(default, str | int) and default != "" else ""


def _examples(context: click.Context) -> str:
    """The epilogue: its examples as commands, and what else it says as text."""
    parts = [part.strip() for part in (context.command.epilog or "").split("\b") if part.strip()]
    return "\n\n".join(_example(part) for part in parts)


def _example(part: str) -> str:
    head, _, rest = part.partition(":")
    if head not in ("Example", "Examples"):
        return part
    commands = "\n".join(f"$ {line.strip()}" for line in rest.strip().splitlines())
    return f"```console\n{commands}\n```"


def _linked(text: str) -> str:
    """Options, variables and messages' words in a text as code."""
    text = re.sub(r"\[env: (\w+)\]", r"Also `\1`.", text)
    return re.sub(r"(?<![`\w-])(--[a-z][a-z-]+|OUTBOX_\w+(?<!_))(?![`\w])", r"`\1`", text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
