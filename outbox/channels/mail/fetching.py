"""Media given by URL, fetched before anything is sent: mail carries what a chat service would fetch by itself."""

import asyncio
from dataclasses import replace

from outbox.channels.attachments import file_name, is_media_type
from outbox.channels.content import Media
from outbox.channels.http import HttpClient
from outbox.channels.mail.letter import Letter
from outbox.errors import OutcomeUnknown, PermanentFailure, RetryLater


async def with_data(letter: Letter, client: HttpClient, *, longest: int, timeout_s: float) -> Letter:
    """The letter, whose media hold their data: at most ``longest`` bytes in all.

    Raises :class:`~outbox.RetryLater` or :class:`~outbox.PermanentFailure`, as their servers say.
    """
    media: list[Media] = []
    try:
        async with asyncio.timeout(timeout_s):
            for place, item in enumerate(letter.media):
                held = sum(len(each.data or b"") for each in media)
                media.append(item if item.url is None else await _fetched(item, place, client, longest - held, timeout_s))
    except TimeoutError:
        raise RetryLater(f"the media could not be fetched within {timeout_s:g} s") from None
    return replace(letter, media=media)


async def _fetched(media: Media, place: int, client: HttpClient, longest: int, timeout_s: float) -> Media:
    what = f"media item {place + 1} could not be fetched"
    try:
        answer = await client.download(media.url or "", longest=longest, timeout_s=timeout_s)
        if not answer.accepted:
            raise answer.failure()
    except RetryLater as failure:
        raise RetryLater(f"{what}: {failure}", None if failure.after_ms is None else failure.after_ms / 1000) from None
    except OutcomeUnknown as failure:  # only a file was asked for
        raise RetryLater(f"{what}: {failure}") from None
    except PermanentFailure as failure:
        raise PermanentFailure(f"{what}: {failure}") from None
    said = answer.headers.get("Content-Type", "")
    kind = media.type or (said if is_media_type(said) else None)
    return replace(media, url=None, data=answer.body, name=file_name(media, place), type=kind)
