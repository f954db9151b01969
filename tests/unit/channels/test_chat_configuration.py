"""Configuration of the chat channels: what is accepted, and what is refused without repeating a secret."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from outbox.channels.chat import ChatChannel
from outbox.channels.registry import build, kinds
from outbox.errors import ConfigurationError

TOKENS = {
    "telegram": "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",
    "slack": "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOcBrzbqgy",
    "discord": "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs-abcdefghij",
}
every_kind = pytest.mark.parametrize("kind", TOKENS)


@every_kind
def test_a_table_of_the_channels_file_makes_a_channel(kind: str) -> None:
    assert kind in kinds()
    channel = build(
        "chat",
        {
            "kind": kind,
            "token": TOKENS[kind],
            "accounts": {"support": {"token": TOKENS[kind]}},
            "base_url": "https://gateway.internal:8443/bots/",
            "allow_hosts": ["gateway.internal"],
            "timeout": 15,
            "target_rate_limit": "20/min",
        },
    )
    assert isinstance(channel, ChatChannel)
    assert (channel.name, channel.timeout) == ("chat", 15)


@every_kind
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "give a token, or accounts that have one each"),
        ({"token": ""}, "token does not look like one"),
        ({"token": "swordfish"}, "token does not look like one"),
        ({"token": "Bot TOKEN"}, "token does not look like one"),
        ({"token": "TOKEN\n"}, "token does not look like one"),
        ({"token": 7}, "token does not look like one"),
        ({"tokn": "TOKEN"}, "did you mean 'token'"),
        ({"token": "TOKEN", "accounts": ["TOKEN"]}, "accounts must be a table of tables"),
        ({"accounts": {"support": "TOKEN"}}, "account 'support' must be a table with a token"),
        ({"accounts": {"support": {}}}, "the token of account 'support' does not look like one"),
        ({"accounts": {"support": {"tokn": "TOKEN"}}}, "account 'support' has no option 'tokn'; did you mean 'token'"),
        ({"token": "TOKEN", "base_url": "http://gateway.example"}, "allow_http"),
        ({"token": "TOKEN", "base_url": "https://127.0.0.1:8081"}, "not public"),
        ({"token": "TOKEN", "base_url": "gateway.example"}, "not an absolute http or https URL"),
        ({"token": "TOKEN", "base_url": "https://gateway.example/?key=swordfish"}, "without query"),
        ({"token": "TOKEN", "base_url": 7}, "base_url must be a URL"),
        ({"token": "TOKEN", "allow_networks": ["10.0.0.1/8"]}, "host bits"),
        ({"token": "TOKEN", "ca_file": "/nowhere/ca.pem"}, "ca_file"),
        ({"token": "TOKEN", "target_rate_limit": "often"}, "a rate looks like"),
    ],
)
def test_configuration_that_cannot_work_is_refused_with_the_channels_name_and_no_secret(
    kind: str, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as refused:
        build("chat", {"kind": kind, **with_token(options, TOKENS[kind])})
    assert "'chat'" in str(refused.value)
    assert "swordfish" not in str(refused.value)
    assert TOKENS[kind] not in str(refused.value)


@every_kind
def test_a_channel_that_is_printed_shows_no_token(kind: str) -> None:
    channel = build(kind, {"token": TOKENS[kind]})
    assert TOKENS[kind] not in repr(channel) + repr(vars(channel))
    assert set(channel.secret_options) == {"token", "accounts"}


def examples(kind: str) -> list[tuple[str, dict[str, Any]]]:
    text = (Path(__file__).parents[3] / f"docs/channels/{kind}.md").read_text(encoding="utf-8")
    tables = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)]
    assert tables
    return [item for table in tables for item in table.items()]


@every_kind
def test_the_examples_of_the_documentation_work(kind: str) -> None:
    for name, options in examples(kind):
        assert isinstance(build(name, with_token(options, TOKENS[kind])), ChatChannel)


def with_token(value: Any, token: str) -> Any:
    if isinstance(value, str):
        return value.replace("TOKEN", token)
    if isinstance(value, list):
        return [with_token(item, token) for item in value]
    if isinstance(value, dict):
        return token if value.keys() == {"from_env"} else {key: with_token(item, token) for key, item in value.items()}
    return value
