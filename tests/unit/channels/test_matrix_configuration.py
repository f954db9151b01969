"""Configuration of the matrix channel, which unlike the other chat channels has no API of everybody's."""

from typing import Any

import pytest

from outbox.channels.matrix import Matrix
from outbox.channels.registry import build, kinds
from outbox.errors import ConfigurationError

TOKEN = "syt_b3V0Ym94_XUtWcDZlbHBCQ2VsV1RQ_0Jb7aa"
HOMESERVER = "https://matrix.example.org"


def test_a_table_of_the_channels_file_makes_a_channel_that_shows_no_token() -> None:
    assert "matrix" in kinds()
    channel = build("rooms", {"kind": "matrix", "token": TOKEN, "base_url": HOMESERVER, "accounts": {"ops": {"token": TOKEN}}})
    assert isinstance(channel, Matrix)
    assert channel.supports_idempotency_key
    assert TOKEN not in repr(channel) + repr(vars(channel))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"token": TOKEN}, "'rooms': give base_url"),
        ({"token": "swordfish", "base_url": HOMESERVER}, "token does not look like one"),
        ({"token": f"Bearer {TOKEN}", "base_url": HOMESERVER}, "token does not look like one"),
        ({"base_url": HOMESERVER}, "give a token"),
        ({"token": TOKEN, "base_url": "http://matrix.example.org"}, "allow_http"),
        ({"token": TOKEN, "homeserver": HOMESERVER}, "has no option 'homeserver'"),
    ],
)
def test_configuration_that_cannot_work_is_refused_with_the_channels_name(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as refused:
        build("rooms", {"kind": "matrix", **options})
    assert TOKEN not in str(refused.value)
