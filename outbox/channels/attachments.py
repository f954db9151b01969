"""Media of chat messages: what they are, what they are called, and how they are uploaded."""

import mimetypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from aiohttp import FormData

from outbox.channels.content import Media
from outbox.errors import InvalidMessage

UNKNOWN_TYPE = "application/octet-stream"
_LONGEST_NAME = 200
_NOT_IN_A_NAME = re.compile(r'[\x00-\x1f\x7f"\\/]')
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*")


@dataclass(frozen=True, slots=True)
class File:
    """A file in a form: the form's ``field``, and what the file is called, holds and is."""

    field: str
    name: str
    data: bytes = dataclass_field(repr=False)
    type: str = UNKNOWN_TYPE


def media_type(media: Media) -> str:
    """The media type as given, else as its name or the URL's path tells it, without parameters."""
    given = (media.type or mimetypes.guess_type(file_name(media, 0))[0] or UNKNOWN_TYPE).partition(";")[0]
    return given.strip().lower()


def file_name(media: Media, place: int) -> str:
    """What the file is called, as given or by its URL; otherwise after its ``place`` and type, such as ``file0.png``."""
    if media.name:
        return media.name
    if media.url is not None:
        return PurePosixPath(unquote(urlsplit(media.url).path)).name or f"file{place}"
    return f"file{place}{mimetypes.guess_extension((media.type or '').partition(';')[0].strip()) or ''}"


def check_media(media: Media, *, longest: int) -> None:
    """Refuse what cannot be put into a request. Raises :class:`~outbox.errors.InvalidMessage`.

    ``longest`` is in bytes.
    """
    if media.url is not None and not is_web_address(media.url):
        raise InvalidMessage("the url of a media item is not an absolute http or https URL")
    if media.data is not None and not 0 < len(media.data) <= longest:
        raise InvalidMessage(f"a media item holds {len(media.data)} bytes; it may hold 1 to {longest}")
    if media.name is not None and (not 0 < len(media.name) <= _LONGEST_NAME or _NOT_IN_A_NAME.search(media.name)):
        raise InvalidMessage(f"the name of a media item has 1 to {_LONGEST_NAME} characters, and no quotes or slashes")
    if media.type is not None and not is_media_type(media.type):
        raise InvalidMessage(f"{media.type[:100]!r} is not a media type such as 'image/png'")


def is_media_type(text: str) -> bool:
    """Whether it is a media type, with or without parameters."""
    return _TYPE.fullmatch(text.partition(";")[0].strip()) is not None


def is_web_address(url: str) -> bool:
    """Whether it is an absolute http or https URL, written without spaces."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"[\s\x00-\x1f\x7f]", url)


async def form(fields: Mapping[str, str], files: Sequence[File]) -> tuple[str, bytes]:
    """Content type and body of a ``multipart/form-data`` request (RFC 7578)."""
    data = FormData(quote_fields=False, default_to_multipart=True)
    for name, value in fields.items():
        data.add_field(name, value)
    for file in files:
        data.add_field(file.field, file.data, filename=file.name, content_type=file.type)
    body = data()
    return body.headers["Content-Type"], await body.as_bytes()
