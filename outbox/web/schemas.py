"""JSON Schemas of what the API sends, read off the records themselves, so that the two cannot differ."""

from dataclasses import fields
from enum import StrEnum
from types import NoneType
from typing import Any, get_args, get_type_hints

from outbox.facts import CONTENT, JSON_TEXTS, TIMES

Schema = dict[str, Any]
_SIMPLE: dict[type, Schema] = {int: {"type": "integer"}, str: {"type": "string"}, bool: {"type": "boolean"}}


def record(kind: type) -> Schema:
    """What :func:`outbox.facts.record_facts` makes of a record."""
    hints = get_type_hints(kind)
    return shape({field.name: _field(field.name, hints[field.name]) for field in fields(kind)})


def message(kind: type) -> Schema:
    """What :func:`outbox.facts.message_facts` makes of a message; its content is not always there."""
    whole = record(kind)
    properties = {JSON_TEXTS.get(name, name): {} if name in JSON_TEXTS else each for name, each in whole["properties"].items()}
    content = {JSON_TEXTS[name] for name in CONTENT}
    return {**whole, "properties": properties, "required": [name for name in properties if name not in content]}


def shape(properties: dict[str, Schema], *optional: str) -> Schema:
    """An object of exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def array(items: Schema, **limits: Any) -> Schema:
    """A list."""
    return {"type": "array", "items": items, **limits}


def nullable(schema: Schema) -> Schema:
    """That, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def choice(kind: type[StrEnum]) -> Schema:
    """One of the texts of an enumeration."""
    return {"type": "string", "enum": [str(member) for member in kind]}


def _field(name: str, hint: Any) -> Schema:
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not NoneType]
    schema = {"type": "string", "description": "ISO 8601, UTC"} if name in TIMES else _kind(kinds[0])
    return nullable(schema) if NoneType in get_args(hint) else schema


def _kind(kind: Any) -> Schema:
    return choice(kind) if isinstance(kind, type) and issubclass(kind, StrEnum) else _SIMPLE[kind]
