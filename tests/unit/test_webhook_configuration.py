import base64
import re
import tomllib
from pathlib import Path

import pytest

from outbox.channels.registry import build
from outbox.channels.webhook import Webhook
from outbox.errors import ConfigurationError

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
URL = "https://receiver.example/hook"


def test_a_table_of_the_channels_file_makes_a_channel() -> None:
    channel = build(
        "partners",
        {
            "kind": "webhook",
            "secrets": [SECRET, SECRET],
            "timeout": 15,
            "concurrency": 8,
            "headers": {"X-From": "shop"},
            "allow_networks": ["10.0.0.0/8", "fd00::/8"],
            "allow_hosts": ["receiver.internal"],
            "ports": [443, 8443],
            "destinations": {"acme": {"url": URL, "secret": SECRET}},
        },
    )
    assert isinstance(channel, Webhook)
    assert (channel.name, channel.timeout, channel.concurrency) == ("partners", 15, 8)


def test_a_webhook_says_that_receivers_can_tell_a_second_copy() -> None:
    assert Webhook().supports_idempotency_key


def test_a_target_is_needed_unless_there_is_a_url() -> None:
    assert Webhook().target_required
    assert not Webhook(url=URL).target_required
    assert Webhook(url=URL, target_required=True).target_required


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"secrt": SECRET}, "did you mean 'secret'"),
        ({"secret": "swordfish"}, "base64"),
        ({"secret": ""}, "holds 0 bytes"),
        ({"secret": [SECRET]}, "secret must be text"),
        ({"secrets": []}, "at least one"),
        ({"secrets": SECRET}, "must be a list"),
        ({"secrets": [SECRET, 7]}, "secrets must be text"),
        ({"secret": SECRET, "secrets": [SECRET]}, "not both"),
        ({"url": ""}, "not an absolute http or https URL"),
        ({"url": "http://receiver.example/"}, "allow_http"),
        ({"url": "https://10.0.0.1/"}, "not public"),
        ({"url": "https://user:swordfish@receiver.example/"}, "credentials"),
        ({"headers": {"Host": "elsewhere"}}, "set by the channel itself"),
        ({"headers": {"Webhook-Id": "7"}}, "set by the channel itself"),
        ({"headers": {"X From": "shop"}}, "not a header name"),
        ({"headers": {"X-From": "swordfish\r\nX: 1"}}, "fits a header"),
        ({"headers": {"X-From": 7}}, "fits a header"),
        ({"headers": ["X-From"]}, "must be a table"),
        ({"destinations": {"acme": {}}}, "destination 'acme': the target is not an absolute"),
        ({"destinations": {"acme": {"ulr": URL}}}, "destination 'acme': .* did you mean 'url'"),
        ({"destinations": {"acme": {"url": URL, "secret": "swordfish"}}}, "destination 'acme': .*base64"),
        ({"destinations": {"acme": URL}}, "destination 'acme': .* table"),
        ({"destinations": [URL]}, "destinations must be a table"),
        ({"allow_networks": ["10.0.0.1/8"]}, "host bits"),
        ({"allow_http": "no"}, "allow_http must be true or false"),
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file"),
        ({"connect_timeout": 0}, "connect_timeout"),
        ({"connect_timeout": "10"}, "connect_timeout"),
        ({"max_response_bytes": 0}, "max_response_bytes"),
    ],
)
def test_configuration_that_cannot_work_is_refused_with_the_channels_name_and_no_secret(options: dict, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as refused:
        build("partners", {"kind": "webhook", **options})
    assert "'partners'" in str(refused.value)
    assert "swordfish" not in str(refused.value)
    assert SECRET not in str(refused.value)


def examples() -> list[tuple[str, dict]]:
    text = (Path(__file__).parents[2] / "docs/channels/webhook.md").read_text(encoding="utf-8")
    return [
        (name, options)
        for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
        for name, options in tomllib.loads(block).items()
    ]


@pytest.mark.parametrize(("name", "options"), examples())
def test_the_examples_of_the_documentation_work(name: str, options: dict) -> None:
    assert isinstance(build(name, from_environment(options)), Webhook)


def from_environment(value: object) -> object:
    if isinstance(value, list):
        return [from_environment(item) for item in value]
    if isinstance(value, dict):
        return SECRET if value.keys() == {"from_env"} else {key: from_environment(item) for key, item in value.items()}
    return value
