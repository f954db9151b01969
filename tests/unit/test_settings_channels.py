"""``channels.toml``: from tables to channels, and what is said about wrong ones."""

from pathlib import Path

import pytest

from config.channels import load_channels
from config.settings import load_settings
from outbox.channels.base import Channel
from outbox.errors import ConfigurationError

PROJECT = Path(__file__).parents[2]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(autouse=True)
def _nowhere_special(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def channels_of(toml: str, **settings: object) -> dict[str, Channel]:
    Path("channels.toml").write_text(toml)
    return {channel.name: channel for channel in load_channels(load_settings(**settings))}


def complaint(toml: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        channels_of(toml)
    return str(caught.value)


def test_without_a_file_there_is_a_channel_to_try_things_out() -> None:
    assert [channel.name for channel in load_channels(load_settings())] == ["console"]


def test_each_table_is_a_channel_with_its_options() -> None:
    channels = channels_of('[console]\ntimeout = 7\n[loud]\nkind = "console"\nmax_attempts = 2\n')

    assert channels["console"].timeout == 7
    assert channels["loud"].max_attempts == 2


def test_the_services_ttl_is_for_channels_that_set_none() -> None:
    channels = channels_of('[console]\n[brief]\nkind = "console"\nttl = 5\n', ttl_s=60)

    assert (channels["console"].ttl, channels["brief"].ttl) == (60, 5)


def test_secrets_can_come_from_the_environment_or_the_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEW", SECRET)
    Path(".env").write_text(f"OLD={SECRET}\n")

    channels = channels_of(
        '[webhook]\nsecrets = [{ from_env = "NEW" }, { from_env = "OLD" }]\n'
        '[webhook.destinations.shop]\nurl = "https://shop.example.com/hook"\nsecret = { from_env = "NEW" }\n'
    )

    assert list(channels) == ["webhook"]


def test_a_secret_that_is_nowhere_is_named() -> None:
    assert complaint('[webhook]\nsecret = { from_env = "HOOK_KEY" }\n').endswith(
        "channels.toml: channel 'webhook': secret is to come from HOOK_KEY, which is not set"
    )


def test_a_file_that_is_not_toml_is_named_with_the_line() -> None:
    said = complaint("[console]\ntimeout = 7\ntimeout 8\n")

    assert "channels.toml is not TOML" in said
    assert "line 3" in said


def test_a_file_that_is_not_text_is_named() -> None:
    Path("channels.toml").write_bytes(b"[console]\n# \xff\n")

    with pytest.raises(ConfigurationError, match=r"channels\.toml is not TOML"):
        load_channels(load_settings())


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.toml cannot be read: No such file"):
        load_channels(load_settings(channels="missing.toml"))


def test_a_directory_in_place_of_the_file_is_named() -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        load_channels(load_settings(channels="."))


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("", "configures no channel; add a table such as [webhook]"),
        ("timeout = 3\n", "'timeout' stands outside of a channel's table, such as [webhook]"),
        ("[webhok]\n", "there is no adapter 'webhok'; did you mean 'webhook'?"),
        ("[console]\ntimeuot = 3\n", "channel 'console' has no option 'timeuot'; did you mean 'timeout'?"),
        ("[console]\ntimeout = 0\n", "channel 'console': timeout must be a finite number of seconds above 0, not 0"),
        ("[Console]\nkind = 'console'\n", "needs a name of lower-case letters"),
    ],
)
def test_a_wrong_table_is_named_with_its_file(toml: str, said: str) -> None:
    complained = complaint(toml)

    assert said in complained
    assert "channels.toml" in complained
    assert "\n" not in complained


def test_the_example_file_is_a_working_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WEBHOOK_SECRET", "BILLING_SECRET", "BILLING_SECRET_OLD", "MATRIX_TOKEN", "SMTP_USERNAME", "SMTP_PASSWORD"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("OPS_APPRISE_URL", "ntfys://ntfy.example.com/ops")

    channels = load_channels(load_settings(channels=PROJECT / "channels.example.toml"))

    assert [channel.name for channel in channels] == ["console", "webhook", "billing", "matrix", "email", "apprise"]
