"""Configuration of the apprise channel: one place for each name, and no secret in what is refused."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from outbox.channels.apprise import Apprise
from outbox.channels.registry import build, kinds
from outbox.errors import ConfigurationError

URL = "json://user:swordfish@localhost/hook"


def test_a_table_of_the_channels_file_makes_a_channel() -> None:
    assert "apprise" in kinds()
    channel = build("alerts", {"kind": "apprise", "services": {"ops": URL}, "accounts": {"acme": {"ops": URL}}})
    assert isinstance(channel, Apprise)
    assert "swordfish" not in repr(channel) + repr(vars(channel))
    assert set(channel.secret_options) == {"services", "accounts"}


@pytest.mark.proves("R15")
@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        (f"{URL}, {URL}", "give each URL a name of its own"),
        ("tgram://123456789:AAswordfishAAswordfishAAswordfishA/1/2", "leads to 2 places"),
        (f"{URL}?overflow=split", "splits long messages"),
        (f"{URL}?retry=2", "asks for retries"),
        (f"{URL}?optional=yes", "its failures would be recorded as delivered"),
    ],
)
def test_a_url_of_which_a_yes_or_no_would_not_tell_all_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as refused:
        build("alerts", {"kind": "apprise", "services": {"ops": url}})
    assert "service 'ops'" in str(refused.value)
    assert "swordfish" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "give services"),
        ({"services": {}}, "give services"),
        ({"services": [URL]}, "must be a table of names and URLs"),
        ({"services": {"ops": "swordfish"}}, "no URL that apprise can use"),
        ({"services": {"ops": "nonsense://swordfish"}}, "no URL that apprise can use"),
        ({"services": {"ops": 7}}, "must be one URL"),
        ({"accounts": [URL]}, "accounts must be a table of tables"),
        ({"accounts": {"acme": URL}}, "of account 'acme' must be a table"),
        ({"accounts": {"acme": {"ops": "swordfish"}}}, "service 'ops' of account 'acme'"),
        ({"servces": {"ops": URL}}, "did you mean 'services'"),
        ({"services": {"ops": URL}, "read_timeout": 30}, "together must be less than timeout"),
        ({"services": {"ops": URL}, "timeout": 5}, "together must be less than timeout"),
        ({"services": {"ops": URL}, "connect_timeout": 0}, "must be finite numbers above 0"),
        ({"services": {"ops": URL}, "read_timeout": "20"}, "must be finite numbers above 0"),
    ],
)
def test_configuration_that_cannot_work_is_refused_with_the_channels_name_and_no_secret(
    options: dict[str, Any], complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"), pytest.raises(ConfigurationError, match=complaint) as refused:
        build("alerts", {"kind": "apprise", **options})
    assert "'alerts'" in str(refused.value)
    assert "swordfish" not in str(refused.value) + caplog.text


def examples() -> list[tuple[str, dict[str, Any]]]:
    text = (Path(__file__).parents[3] / "docs/channels/apprise.md").read_text(encoding="utf-8")
    tables = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)]
    assert tables
    return [item for table in tables for item in table.items()]


@pytest.mark.parametrize(("name", "options"), examples())
def test_the_examples_of_the_documentation_work(name: str, options: dict[str, Any]) -> None:
    assert isinstance(build(name, _with_urls(options)), Apprise)


def _with_urls(value: Any) -> Any:
    if isinstance(value, dict):
        return URL if value.keys() == {"from_env"} else {key: _with_urls(item) for key, item in value.items()}
    return value
