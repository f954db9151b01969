"""Configuration of the email channel: what is accepted, and what is refused without repeating a secret."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from outbox.channels.email import Email
from outbox.channels.mail.account import Account
from outbox.channels.registry import build, kinds
from outbox.errors import ConfigurationError

LEAST = {"host": "smtp.example.com", "sender": "Shop <orders@shop.example>"}
LOGIN = {"username": "apikey", "password": "swordfish"}


def test_a_table_of_the_channels_file_makes_a_channel() -> None:
    assert "email" in kinds()
    channel = build("mail", {"kind": "email", **LEAST, **LOGIN, "accounts": {"desk": {"sender": "desk@shop.example"}}})
    assert isinstance(channel, Email)
    assert (channel.name, channel.supports_idempotency_key) == ("mail", False)


@pytest.mark.parametrize(("security", "port"), [("starttls", 587), ("tls", 465), ("none", 25)])
def test_the_port_is_the_registered_one_unless_another_is_given(security: str, port: int) -> None:
    assert Account().refined({**LEAST, "security": security}).server_port == port
    assert Account().refined({**LEAST, "security": security, "port": 2525}).server_port == 2525


def test_an_account_refines_the_channels_own() -> None:
    base = Account().refined({**LEAST, **LOGIN, "domain": "ids.shop.example"})
    desk = base.refined({"sender": "desk@help.example", "username": "desk", "password": "marlin"})
    assert (desk.host, desk.sender.addr_spec, desk.message_id_domain) == (
        "smtp.example.com",
        "desk@help.example",
        "ids.shop.example",
    )


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"host": None}, "give a host"),
        ({"sender": None}, "give a sender"),
        ({"host": "smtp://smtp.example.com"}, "host must be the name of the server alone"),
        ({"host": "me@smtp.example.com"}, "host must be the name of the server alone"),
        ({"host": "smtp.example.com\r\nX"}, "host must be text in one line"),
        ({"host": ["smtp.example.com"]}, "host must be text in one line"),
        ({"port": "25"}, "port must be a port number"),
        ({"port": 0}, "port must be a port number"),
        ({"security": "ssl"}, "security must be 'starttls', 'tls' or 'none'"),
        ({"username": "apikey"}, "username and password go together"),
        ({"password": "swordfish"}, "username and password go together"),
        ({**LOGIN, "security": "none"}, "a password is not sent in the clear"),
        ({"sender": "Shop"}, "sender is not a list of addresses"),
        ({"sender": "a@shop.example, b@shop.example"}, "sender holds 2 addresses"),
        ({"sender": "shop@bücher.example"}, "the sender's domain is not ASCII"),
        ({"domain": "shop example"}, "domain must be a domain's name"),
        ({"subject": "two\nlines"}, "subject must be text in one line"),
        ({"sendr": "x"}, "did you mean 'sender'"),
        ({"accounts": ["desk"]}, "accounts must be a table of tables"),
        ({"accounts": {"desk": "swordfish"}}, "account 'desk': an account must be a table"),
        ({"accounts": {"desk": {"pasword": "swordfish"}}}, "account 'desk': an account has no option 'pasword'; did you mean"),
        ({"host": None, "accounts": {"desk": {}}}, "account 'desk' lacks a host"),
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file"),
        ({"local_hostname": "my host"}, "local_hostname must be"),
        ({"max_bytes": 0}, "max_bytes must be a whole number above 0"),
        ({"max_bytes": "25 MB"}, "max_bytes must be a whole number above 0"),
        ({"allow_networks": ["10.0.0.1/8"]}, "host bits"),
        ({"concurrency": 0}, "concurrency must be a whole number above 0"),
    ],
)
def test_configuration_that_cannot_work_is_refused_with_the_channels_name_and_no_secret(
    options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as refused:
        build("mail", {"kind": "email", **LEAST, **options})
    assert "'mail'" in str(refused.value)
    assert "swordfish" not in str(refused.value)


def test_a_channel_that_is_printed_shows_no_secret() -> None:
    channel = build("email", {**LEAST, **LOGIN})
    assert "swordfish" not in repr(channel) + repr(vars(channel))
    assert set(channel.secret_options) == {"username", "password", "accounts"}


def examples() -> list[tuple[str, dict[str, Any]]]:
    text = (Path(__file__).parents[3] / "docs/channels/email.md").read_text(encoding="utf-8")
    tables = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)]
    assert tables
    return [item for table in tables for item in table.items()]


@pytest.mark.parametrize(("name", "options"), examples())
def test_the_examples_of_the_documentation_work(name: str, options: dict[str, Any]) -> None:
    assert isinstance(build(name, _with_secrets(options)), Email)


def _with_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return "swordfish" if value.keys() == {"from_env"} else {key: _with_secrets(item) for key, item in value.items()}
    return value
